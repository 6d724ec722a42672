//! The two eras of the protocol, and which requests may be served before the client has introduced itself.
//!
//! Both eras live on one connection, in any order. A legacy client introduces itself once, with `initialize`; a modern
//! one (2026-07-28) in the `_meta` of every request. rmcp decides this once, by the first request, and then holds the
//! connection to it; we check each request instead. That happens as messages arrive: handlers run concurrently,
//! and a request sent right behind `initialize` may overtake it.

use rmcp::ErrorData;
use rmcp::model::{ClientRequest, GetMeta, ProtocolVersion};
use rmcp::service::{RequestContext, RoleServer};

/// Returns whether a request comes from a modern client, which introduces itself in each.
pub(super) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

/// What the client has said about itself so far.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    initialized: bool,
}

impl Lifecycle {
    /// Lets a request pass, or says why not.
    pub(super) fn check(&mut self, request: &ClientRequest) -> Result<(), ErrorData> {
        match request {
            ClientRequest::InitializeRequest(_) => self.initialized = true,
            // Allowed at any time; rmcp itself checks what `server/discover` must carry.
            ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => {}
            // An unknown method, or a known one whose parameters make no sense: the answer says so either way.
            ClientRequest::CustomRequest(_) => {}
            introduced if !self.initialized => {
                let missing = introduced.get_meta().missing_required_keys(&ProtocolVersion::V_2026_07_28);
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    let message = format!(
                        "request _meta is missing or has malformed {missing}; send them, or send initialize first"
                    );
                    return Err(ErrorData::invalid_params(message, None));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(method: &str, params: Value) -> ClientRequest {
        serde_json::from_value(json!({ "method": method, "params": params })).unwrap()
    }

    fn modern() -> Value {
        json!({ "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        } })
    }

    fn initialize() -> ClientRequest {
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" },
        });
        request("initialize", params)
    }

    #[test]
    fn a_client_introduces_itself_once_or_in_every_request() {
        let mut lifecycle = Lifecycle::default();
        assert!(lifecycle.check(&request("ping", json!({}))).is_ok());
        let error = lifecycle.check(&request("tools/list", json!({}))).unwrap_err();
        assert!(error.message.contains("protocolVersion") && error.message.contains("initialize"), "{error}");
        assert!(lifecycle.check(&request("tools/list", modern())).is_ok());
        assert!(lifecycle.check(&request("tools/list", json!({}))).is_err(), "one request speaks for itself only");
        assert!(lifecycle.check(&initialize()).is_ok());
        assert!(lifecycle.check(&request("tools/list", json!({}))).is_ok());
    }
}
