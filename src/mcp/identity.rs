//! Who we are, as clients see it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rmcp::model::{CallToolResponse, DiscoverResult, Icon, Implementation, MetaObject, ServerCapabilities};
use rmcp::service::{RequestContext, RoleServer};

use super::lifecycle::is_modern;

const ICON_SVG: &[u8] = include_bytes!("../../packaging/icon.svg");
const ICON_PNG: &[u8] = include_bytes!("../../packaging/icon-48.png");

/// Returns what a handshake, or its modern counterpart, shows a person. The icons are in it: nothing is fetched.
pub(super) fn introduction() -> Implementation {
    let icon = |kind: &str, bytes: &[u8], size: &str| {
        let data = BASE64_STANDARD.encode(bytes);
        Icon::new(format!("data:{kind};base64,{data}")).with_mime_type(kind).with_sizes(vec![size.to_owned()])
    };
    let icons = vec![icon("image/svg+xml", ICON_SVG, "any"), icon("image/png", ICON_PNG, "48x48")];
    name().with_description(env!("CARGO_PKG_DESCRIPTION")).with_icons(icons)
}

/// Returns what names us in the `_meta` of a result, for a client that saw no handshake.
pub(super) fn signature(context: &RequestContext<RoleServer>) -> Option<MetaObject> {
    if is_modern(context) { our_name_in_meta() } else { None }
}

/// Adds what names us to the response of a tool, as [`signature`] does.
pub(super) fn sign(mut response: CallToolResponse, context: &RequestContext<RoleServer>) -> CallToolResponse {
    let meta = match &mut response {
        CallToolResponse::Complete(result) => &mut result.meta,
        CallToolResponse::InputRequired(result) => &mut result.meta,
        CallToolResponse::Task(result) => &mut result.meta,
        _ => return response,
    };
    *meta = signature(context);
    response
}

fn our_name_in_meta() -> Option<MetaObject> {
    let mut result = DiscoverResult::new(Vec::new(), ServerCapabilities::default());
    result.set_server_info(name());
    result.meta
}

fn name() -> Implementation {
    Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).with_title("Moadim")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icons_are_what_they_say_and_stay_small() {
        assert!(ICON_SVG.starts_with(b"<svg "));
        assert!(ICON_PNG.starts_with(b"\x89PNG\r\n\x1a\n"));
        let introduction = serde_json::to_string(&introduction()).unwrap();
        assert!(introduction.len() < 2_500, "{}", introduction.len());
        let signature = serde_json::to_string(&our_name_in_meta()).unwrap();
        assert!(signature.contains("moadim-mcp") && !signature.contains("icons"), "{signature}");
    }
}
