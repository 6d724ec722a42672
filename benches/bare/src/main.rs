//! The least that rmcp makes a server of: stdio, and one tool.

use rmcp::handler::server::wrapper::Parameters;
use rmcp::transport::stdio;
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Said {
    text: String,
}

struct Bare;

#[tool_router]
impl Bare {
    #[tool(description = "Says it again.")]
    fn echo(&self, Parameters(said): Parameters<Said>) -> String {
        said.text
    }
}

#[tool_handler]
impl ServerHandler for Bare {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Bare.serve(stdio()).await?.waiting().await?;
    Ok(())
}
