//! MCP Apps: the dashboard as a panel inside hosts that show panels (extension `io.modelcontextprotocol/ui`, version 2026-01-26).
//!
//! A server declares it in both eras, a tool names its panel, and the panel is a resource: one page that calls tools through its
//! host. Which tools it may see is the host's promise, so what is for panels alone is listed only for clients that know panels.

use rmcp::model::{ExtensionCapabilities, JsonObject, MetaObject, ResourceContents};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use crate::dashboard::page::PAGE;

/// The extension's name among the capabilities.
const EXTENSION: &str = "io.modelcontextprotocol/ui";
/// The panel. Hosts compare this byte by byte with what a tool names.
pub(super) const DASHBOARD_URI: &str = "ui://moadim/dashboard";
const PANEL_TYPE: &str = "text/html;profile=mcp-app";

/// Returns what declares that we have panels.
pub(super) fn extension() -> ExtensionCapabilities {
    ExtensionCapabilities::from([(EXTENSION.to_owned(), object(json!({ "mimeTypes": [PANEL_TYPE] })))])
}

/// Returns whether the client of a request shows panels: in the modern era each request says so, in the legacy one the handshake.
pub(super) fn shows_panels(context: &RequestContext<RoleServer>) -> bool {
    let extensions = context.client_capabilities().and_then(|capabilities| capabilities.extensions);
    extensions.is_some_and(|extensions| extensions.contains_key(EXTENSION))
}

/// Returns the panel itself. It loads nothing, so it asks for no other policy than the strictest.
pub(super) fn dashboard() -> ResourceContents {
    let meta = MetaObject(object(json!({ "ui": { "prefersBorder": true } })));
    ResourceContents::text(PAGE, DASHBOARD_URI).with_mime_type(PANEL_TYPE).with_meta(meta)
}

/// Returns what makes a host show the panel beside a tool's answer. Some look for the older key alone.
pub(super) fn shown_in_panel() -> MetaObject {
    MetaObject(object(json!({ "ui": { "resourceUri": DASHBOARD_URI }, "ui/resourceUri": DASHBOARD_URI })))
}

/// Returns what keeps a tool from models, for the panel alone.
pub(super) fn for_panel_alone() -> MetaObject {
    MetaObject(object(json!({ "ui": { "resourceUri": DASHBOARD_URI, "visibility": ["app"] } })))
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
