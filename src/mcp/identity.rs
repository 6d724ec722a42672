//! Who we are, as clients are told.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rmcp::model::{DiscoverResult, Icon, Implementation, MetaObject, ServerCapabilities};

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

/// Returns what names us in the `_meta` of every result: how a client that saw no handshake knows whom it talks to.
pub(super) fn signature() -> Option<MetaObject> {
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
        let signature = serde_json::to_string(&signature()).unwrap();
        assert!(signature.contains("moadim-mcp") && !signature.contains("icons"), "{signature}");
    }
}
