//! The MCP server: what it offers, and which module answers what.

use std::io;
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestMethod, CallToolRequestParams, CallToolResponse, CancelTaskMethod, CancelTaskParams,
    CompleteRequestMethod, CompleteRequestParams, CompleteResult, ConstString, CustomRequest, CustomResult,
    DiscoverRequestMethod, DiscoverResult, ErrorCode, ExtensionCapabilities, GetPromptRequestMethod,
    GetPromptRequestParams, GetPromptResponse, GetTaskMethod, GetTaskParams, GetTaskResult, InitializeRequestParams,
    InitializeResult, InitializeResultMethod, ListPromptsRequestMethod, ListPromptsResult,
    ListResourceTemplatesRequestMethod, ListResourceTemplatesResult, ListResourcesRequestMethod, ListResourcesResult,
    ListToolsRequestMethod, ListToolsResult, PaginatedRequestParams, PingRequestMethod, ProtocolVersion,
    ReadResourceRequestMethod, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities,
    ServerConfig, SubscribeRequestMethod, SubscribeRequestParams, SubscriptionFilter, SubscriptionsListenRequestMethod,
    TASKS_EXTENSION_ID, UnsubscribeRequestMethod, UnsubscribeRequestParams, UpdateTaskMethod, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;

use super::call_handler::CallHandler;
use super::call_threads::{CallThreads, Panicked};
use super::connection::Connection;
use super::identity::{self, sign, signature};
use super::lifecycle::is_modern;
use super::subscriptions::{self, Subscriptions};
use super::tool::Tool;
use super::tools::dashboard;
use super::{completion, prompts, resources, tasks, ui};
use crate::query::changes::Topic;
use crate::quote::shortened;
use crate::run::context::App;

/// How long a client may keep what never changes while we run, in milliseconds.
const CACHE_MS: u64 = 5 * 60 * 1000;

/// A server for one connection.
pub(crate) struct Server {
    app: Arc<App>,
    tools: Arc<[Tool]>,
    threads: Arc<CallThreads>,
    config: ServerConfig,
    pub(super) connection: Connection,
    calls: CallHandler,
    subscriptions: Arc<Subscriptions>,
}

impl Server {
    /// Makes a server of some tools; `instructions` tell a model how they go together.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(crate) fn new(app: Arc<App>, tools: Vec<Tool>, instructions: impl Into<String>) -> io::Result<Self> {
        Self::on_threads(app, tools, instructions, CallThreads::new()?)
    }

    pub(super) fn on_threads(
        app: Arc<App>,
        mut tools: Vec<Tool>,
        instructions: impl Into<String>,
        threads: CallThreads,
    ) -> io::Result<Self> {
        tools.sort_unstable_by_key(Tool::name);
        let (tools, threads): (Arc<[Tool]>, _) = (tools.into(), Arc::new(threads));
        let has_panel = tools.iter().any(|tool| tool.name() == dashboard::SHOW);
        let capabilities = ServerCapabilities::builder()
            .enable_extensions_with(if has_panel { ui::extension() } else { ExtensionCapabilities::new() })
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_prompts()
            .enable_completions()
            .enable_tasks()
            .build();
        let config = ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(identity::introduction())
            .with_instructions(instructions);
        let connection = Connection::default();
        let calls = CallHandler::new(app.clone(), tools.clone(), threads.clone(), connection.clone());
        let subscriptions = Arc::new(Subscriptions::new(app.clone(), threads.clone(), connection.clone())?);
        Ok(Self { app, tools, threads, config, connection, calls, subscriptions })
    }

    fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name() == name)
    }

    /// Reads from the home on a thread of its own.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&App) -> Result<T, ErrorData> + Send + 'static,
    ) -> Result<T, ErrorData> {
        let app = Arc::clone(&self.app);
        self.threads.run(move |_| work(&app)).await.unwrap_or_else(|Panicked(message)| {
            let text =
                format!("this failed inside moadim-mcp: {message}. This is a bug; the server's stderr has the details");
            Err(ErrorData::internal_error(text, None))
        })
    }
}

/// Returns the topic that a URI names.
fn topic(uri: &str) -> Result<Topic, ErrorData> {
    let unknown = || resources::not_found(uri, format!("there is no resource '{}'", shortened(uri, 80)));
    resources::topic(uri).ok_or_else(unknown)
}

/// Signs a result, and says how many milliseconds a client may keep it.
macro_rules! sign_for {
    ($ttl_ms:expr, $result:ident, $context:ident) => {
        if is_modern(&$context) {
            $result.ttl_ms = Some($ttl_ms);
            $result.cache_scope = Some(if $ttl_ms == 0 { CacheScope::Private } else { CacheScope::Public });
            $result.meta = signature(&$context);
        }
    };
}

type PageRequest = Option<PaginatedRequestParams>;
type RequestCtx = RequestContext<RoleServer>;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        self.config.clone()
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestCtx,
    ) -> Result<InitializeResult, ErrorData> {
        let mut answer = self.negotiate_initialize(&request)?;
        // Tasks need an answer that this era does not have.
        if let Some(extensions) = &mut answer.capabilities.extensions {
            extensions.remove(TASKS_EXTENSION_ID);
        }
        answer.capabilities.extensions.take_if(|extensions| extensions.is_empty());
        // What was agreed on counts from here on, not what the client asked for.
        context.peer.set_peer_info(request.with_protocol_version(answer.protocol_version.clone()));
        Ok(answer)
    }

    async fn discover(&self, _: RequestCtx) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        let mut result = DiscoverResult::from_server_info(versions, self.get_info());
        result.ttl_ms = CACHE_MS;
        result.cache_scope = CacheScope::Public;
        Ok(result)
    }

    async fn list_tools(&self, _: PageRequest, context: RequestCtx) -> Result<ListToolsResult, ErrorData> {
        let shows_panels = ui::shows_panels(&context);
        let listed = self.tools.iter().filter(|tool| tool.is_for_models() || shows_panels);
        let listed = listed.map(|tool| tool.definition().clone()).collect();
        let mut result = ListToolsResult::with_all_items(listed);
        sign_for!(CACHE_MS, result, context);
        // Another client may get another list.
        result.cache_scope = result.cache_scope.map(|_| CacheScope::Private);
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestCtx,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(sign(self.calls.call(request, &context).await?, &context))
    }

    async fn list_resources(&self, page: PageRequest, context: RequestCtx) -> Result<ListResourcesResult, ErrorData> {
        if !is_modern(&context) {
            // A client that keeps the list wants to know when it changes; a modern one says so itself.
            if let Err(error) = self.subscriptions.subscribe(Topic::Lists, &context.peer).await {
                tracing::warn!(%error, "changes of the lists are not reported");
            }
        }
        let cursor = page.and_then(|page| page.cursor);
        let listed = self.read(move |app| resources::list(app, cursor.as_deref())).await?;
        let (listed, next_cursor) = listed;
        let mut result = ListResourcesResult::with_all_items(listed);
        result.next_cursor = next_cursor;
        sign_for!(0, result, context);
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        _: PageRequest,
        context: RequestCtx,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut result = ListResourceTemplatesResult::with_all_items(resources::templates());
        sign_for!(CACHE_MS, result, context);
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestCtx,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri == ui::DASHBOARD_URI && self.has_tool(dashboard::SHOW) {
            let mut result = ReadResourceResult::new(vec![ui::dashboard()]);
            sign_for!(CACHE_MS, result, context);
            return Ok(result.into());
        }
        let contents = self.read(move |app| resources::read(app, &request.uri)).await?;
        let mut result = ReadResourceResult::new(vec![contents]);
        sign_for!(0, result, context);
        Ok(result.into())
    }

    async fn subscribe(&self, request: SubscribeRequestParams, context: RequestCtx) -> Result<(), ErrorData> {
        self.subscriptions.subscribe(topic(&request.uri)?, &context.peer).await
    }

    async fn unsubscribe(&self, request: UnsubscribeRequestParams, _: RequestCtx) -> Result<(), ErrorData> {
        self.subscriptions.unsubscribe(&topic(&request.uri)?);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(subscriptions::accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.subscriptions.listen(&context).await;
        Ok(())
    }

    async fn complete(&self, request: CompleteRequestParams, context: RequestCtx) -> Result<CompleteResult, ErrorData> {
        let mut result = CompleteResult::new(self.read(move |app| completion::complete(app, &request)).await?);
        result.meta = signature(&context);
        Ok(result)
    }

    async fn list_prompts(&self, _: PageRequest, context: RequestCtx) -> Result<ListPromptsResult, ErrorData> {
        let mut result = ListPromptsResult::with_all_items(prompts::list(|tool| self.has_tool(tool)));
        sign_for!(CACHE_MS, result, context);
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestCtx,
    ) -> Result<GetPromptResponse, ErrorData> {
        let known = prompts::find(&request.name).filter(|prompt| self.has_tool(prompt.needs)).ok_or_else(|| {
            let known: Vec<_> =
                prompts::list(|tool| self.has_tool(tool)).into_iter().map(|prompt| prompt.name).collect();
            let name = shortened(&request.name, 80);
            ErrorData::invalid_params(
                format!("there is no prompt `{name}`; the prompts are: {}", known.join(", ")),
                None,
            )
        })?;
        let mut result = self.read(move |app| prompts::get(app, known, request.arguments)).await?;
        result.meta = signature(&context);
        Ok(result.into())
    }

    async fn get_task(&self, request: GetTaskParams, context: RequestCtx) -> Result<GetTaskResult, ErrorData> {
        let mut result = GetTaskResult::new(self.read(move |app| tasks::look(app, &request.task_id)).await?);
        result.meta = signature(&context);
        Ok(result)
    }

    /// Takes the answers to what a task has asked: ours ask nothing.
    async fn update_task(&self, request: UpdateTaskParams, _: RequestCtx) -> Result<(), ErrorData> {
        self.read(move |app| tasks::look(app, &request.task_id).map(drop)).await
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestCtx) -> Result<(), ErrorData> {
        const TOOL: &str = "stop_run";
        if !self.has_tool(TOOL) {
            let text = format!("cannot cancel the task: this server does not offer `{TOOL}`");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, text, None));
        }
        self.read(move |app| tasks::cancel(app, &request.task_id)).await
    }

    /// Refuses what rmcp could not parse: an unknown method, or a known one with malformed parameters.
    async fn on_custom_request(&self, request: CustomRequest, context: RequestCtx) -> Result<CustomResult, ErrorData> {
        let other_era = if is_modern(&context) { &LEGACY_METHODS[..] } else { &MODERN_METHODS[..] };
        if other_era.contains(&request.method.as_str()) {
            return Err(no_method(&request.method));
        }
        let params = request.params.unwrap_or(Value::Null);
        let reason = match request.method.as_str() {
            CallToolRequestMethod::VALUE => problem::<CallToolRequestParams>(params),
            CompleteRequestMethod::VALUE => problem::<CompleteRequestParams>(params),
            GetPromptRequestMethod::VALUE => problem::<GetPromptRequestParams>(params),
            InitializeResultMethod::VALUE => problem::<InitializeRequestParams>(params),
            ReadResourceRequestMethod::VALUE => problem::<ReadResourceRequestParams>(params),
            SubscribeRequestMethod::VALUE => problem::<SubscribeRequestParams>(params),
            UnsubscribeRequestMethod::VALUE => problem::<UnsubscribeRequestParams>(params),
            GetTaskMethod::VALUE => problem::<GetTaskParams>(params),
            UpdateTaskMethod::VALUE => problem::<UpdateTaskParams>(params),
            CancelTaskMethod::VALUE => problem::<CancelTaskParams>(params),
            ListToolsRequestMethod::VALUE
            | ListResourcesRequestMethod::VALUE
            | ListResourceTemplatesRequestMethod::VALUE
            | ListPromptsRequestMethod::VALUE
            | DiscoverRequestMethod::VALUE
            | PingRequestMethod::VALUE
            | SubscriptionsListenRequestMethod::VALUE => DO_NOT_FIT.to_owned(),
            unknown => return Err(no_method(unknown)),
        };
        Err(ErrorData::invalid_params(format!("malformed params of {}: {reason}", request.method), None))
    }
}

/// The methods that only one era has, besides the handshakes.
const LEGACY_METHODS: [&str; 3] =
    [PingRequestMethod::VALUE, SubscribeRequestMethod::VALUE, UnsubscribeRequestMethod::VALUE];
const MODERN_METHODS: [&str; 1] = [SubscriptionsListenRequestMethod::VALUE];

fn no_method(name: &str) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("there is no method `{}`", shortened(name, 80)), None)
}

const DO_NOT_FIT: &str = "they do not fit the method";

fn problem<T: serde::de::DeserializeOwned>(params: Value) -> String {
    match serde_path_to_error::deserialize::<_, T>(params) {
        Ok(_) => DO_NOT_FIT.to_owned(),
        Err(error) => shortened(&error.to_string(), 200),
    }
}
