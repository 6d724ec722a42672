//! The MCP server: what it says about itself, and how it calls tools.

use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestMethod, CallToolRequestParams, CallToolResponse, CallToolResult, ConstString,
    ContentBlock, CustomRequest, CustomResult, DiscoverRequestMethod, DiscoverResult, ErrorCode, Implementation,
    InitializeRequestParams, InitializeResult, InitializeResultMethod, ListToolsRequestMethod, ListToolsResult,
    MetaObject, PaginatedRequestParams, PingRequestMethod, ProgressNotificationParam, ProtocolVersion,
    ServerCapabilities, ServerConfig, SubscriptionFilter, SubscriptionsListenRequestMethod,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use super::call::Call;
use super::call_threads::{CallThreads, Panicked};
use super::stdio::Signals;
use super::tool::{Tool, shortened};

/// How long a client may keep what never changes while we run, in milliseconds.
const CACHE_MS: u64 = 5 * 60 * 1000;

/// A server over the context `C` that its tools share.
pub struct Server<C> {
    shared: Arc<Shared<C>>,
    config: ServerConfig,
    threads: CallThreads,
    signals: Signals,
}

struct Shared<C> {
    context: C,
    /// Sorted by name.
    tools: Vec<Tool<C>>,
}

impl<C: Send + Sync + 'static> Server<C> {
    /// Makes a server; `instructions` tell a model how the tools go together.
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn new(context: C, mut tools: Vec<Tool<C>>, instructions: impl Into<String>) -> io::Result<Self> {
        tools.sort_by_key(Tool::name);
        let identity = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).with_title("Moadim");
        let config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(identity)
            .with_instructions(instructions);
        let shared = Arc::new(Shared { context, tools });
        Ok(Self { shared, config, threads: CallThreads::new()?, signals: Signals::default() })
    }

    /// Returns what this server's connection tells.
    pub(super) fn signals(&self) -> Signals {
        self.signals.clone()
    }

    fn find(&self, name: &str) -> Result<usize, ErrorData> {
        let tools = &self.shared.tools;
        tools.binary_search_by(|tool| tool.name().cmp(name)).map_err(|_| {
            let known: Vec<&str> = tools.iter().map(Tool::name).collect();
            let name = shortened(name, 80);
            let message = format!("there is no tool `{name}`; the tools are: {}", known.join(", "));
            ErrorData::invalid_params(message, None)
        })
    }

    /// Names us in a result's `_meta`: how a modern client, which sees no handshake, learns whom it talks to.
    fn signature(&self) -> Option<MetaObject> {
        let mut result = DiscoverResult::new(Vec::new(), ServerCapabilities::default());
        result.set_server_info(self.config.server_info.clone());
        result.meta
    }
}

fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

fn failed_call(text: impl Display) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text.to_string())])
}

impl<C: Send + Sync + 'static> ServerHandler for Server<C> {
    fn get_info(&self) -> ServerConfig {
        self.config.clone()
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let answer = self.negotiate_initialize(&request)?;
        // What was agreed on counts from here on, not what the client asked for.
        context.peer.set_peer_info(request.with_protocol_version(answer.protocol_version.clone()));
        Ok(answer)
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        let mut result = DiscoverResult::from_server_info(versions, self.get_info());
        result.ttl_ms = CACHE_MS;
        result.cache_scope = CacheScope::Public;
        Ok(result)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let listed = self.shared.tools.iter().map(|tool| tool.definition().clone()).collect();
        let mut result = ListToolsResult::with_all_items(listed);
        if is_modern(&context) {
            result.ttl_ms = Some(CACHE_MS);
            result.cache_scope = Some(CacheScope::Public);
            result.meta = self.signature();
        }
        Ok(result)
    }

    /// Runs the tool on a thread of its own, so that nothing it waits for holds up another request. When the client
    /// cancels the call nobody waits for its answer any more: the tool itself runs to its end, unless it only waits.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let index = self.find(&request.name)?;
        let shared = Arc::clone(&self.shared);
        let arguments = request.arguments.unwrap_or_default();
        let token = context.meta.get_progress_token();
        let (sender, mut told) = unbounded_channel();
        let call = Call::new(token.is_some().then_some(sender));
        let bell = call.bell().clone();
        let mut ended = pin!(self.threads.run(move || shared.tools[index].call(&shared.context, arguments, &call)));
        let closing = &self.signals.closing;
        let mut open = true;
        let ended = loop {
            tokio::select! {
                biased;
                () = context.ct.cancelled() => {
                    bell.call_off();
                    return Err(ErrorData::internal_error("the call was cancelled", None));
                }
                () = closing.cancelled(), if open => {
                    open = false;
                    bell.call_off();
                }
                // Before the answer, after which a client would not know what it is about.
                Some(progress) = told.recv() => {
                    if let Some(token) = token.clone() {
                        let param = ProgressNotificationParam::new(token, progress.done)
                            .with_total(progress.total)
                            .with_message(progress.message);
                        // A connection that takes nothing more ends by itself.
                        let _ = context.peer.notify_progress(param).await;
                    }
                }
                ended = &mut ended => break ended,
            }
        };
        let mut result = match ended {
            Ok(Ok(answer)) => CallToolResult::structured(answer),
            Ok(Err(error)) => failed_call(error),
            // The panic hook has written the place to stderr already.
            Err(Panicked(words)) => {
                tracing::error!(tool = %request.name, words, "a tool panicked");
                failed_call(format_args!(
                    "`{}` failed inside moadim-mcp: {words}. This is a bug; the server's stderr has the details. Look \
                     at the state (`health`, `list_runs`) before you try again.",
                    request.name
                ))
            }
        };
        if is_modern(&context) {
            result.meta = self.signature();
        }
        Ok(result.into())
    }

    /// Accepts every subscription; rmcp cuts it down to what we announce, which is nothing that changes by itself.
    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        tokio::select! {
            () = context.cancelled() => {}
            () = self.signals.closing.cancelled() => {}
        }
        Ok(())
    }

    /// What rmcp could not make sense of: a method that we do not have, or one that we have with other parameters.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let params = request.params.unwrap_or(Value::Null);
        let reason = match request.method.as_str() {
            CallToolRequestMethod::VALUE => misfit::<CallToolRequestParams>(params),
            InitializeResultMethod::VALUE => misfit::<InitializeRequestParams>(params),
            ListToolsRequestMethod::VALUE
            | DiscoverRequestMethod::VALUE
            | PingRequestMethod::VALUE
            | SubscriptionsListenRequestMethod::VALUE => "they do not fit the method".to_owned(),
            unknown => {
                let message = format!("there is no method `{}`", shortened(unknown, 80));
                return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None));
            }
        };
        Err(ErrorData::invalid_params(format!("malformed params of {}: {reason}", request.method), None))
    }
}

fn misfit<T: serde::de::DeserializeOwned>(params: Value) -> String {
    match serde_path_to_error::deserialize::<_, T>(params) {
        Ok(_) => "they do not fit the method".to_owned(),
        Err(error) => shortened(&error.to_string(), 200),
    }
}
