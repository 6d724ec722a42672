//! The MCP server: what it offers, and who in here answers what.

use std::io;
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestMethod, CallToolRequestParams, CallToolResponse, CancelTaskMethod, CancelTaskParams,
    CompleteRequestMethod, CompleteRequestParams, CompleteResult, ConstString, CustomRequest, CustomResult,
    DiscoverRequestMethod, DiscoverResult, ErrorCode, GetPromptRequestMethod, GetPromptRequestParams,
    GetPromptResponse, GetTaskMethod, GetTaskParams, GetTaskResult, InitializeRequestParams, InitializeResult,
    InitializeResultMethod, ListPromptsRequestMethod, ListPromptsResult, ListResourceTemplatesRequestMethod,
    ListResourceTemplatesResult, ListResourcesRequestMethod, ListResourcesResult, ListToolsRequestMethod,
    ListToolsResult, MetaObject, PaginatedRequestParams, PingRequestMethod, ProtocolVersion, ReadResourceRequestMethod,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig,
    SubscribeRequestMethod, SubscribeRequestParams, SubscriptionFilter, SubscriptionsListenRequestMethod,
    UnsubscribeRequestMethod, UnsubscribeRequestParams, UpdateTaskMethod, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;

use super::call_threads::{CallThreads, Panicked};
use super::consent::OpenQuestions;
use super::listening::{self, Session};
use super::stdio::Signals;
use super::subscriptions::Subscriptions;
use super::tool::{Tool, shortened};
use super::{Core, completion, identity, prompts, resources, tasks};
use crate::query::changes::Topic;

/// How long a client may keep what never changes while we run, in milliseconds.
const CACHE_MS: u64 = 5 * 60 * 1000;

/// A server for one connection.
pub struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: CallThreads,
    config: ServerConfig,
    signals: Signals,
    subscriptions: Subscriptions,
    session: Session,
    pub(super) questions: OpenQuestions,
}

/// What calls work with, on threads of their own.
pub(super) struct Shared {
    pub(super) core: Core,
    /// Sorted by name.
    pub(super) tools: Vec<Tool>,
}

impl Server {
    /// Makes a server of some tools; `instructions` tell a model how they go together.
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn new(core: Core, mut tools: Vec<Tool>, instructions: impl Into<String>) -> io::Result<Self> {
        tools.sort_by_key(Tool::name);
        let capabilities = ServerCapabilities::builder()
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
        let subscriptions = Subscriptions::new(core.app.home().clone(), core.app.routines());
        let shared = Arc::new(Shared { core, tools });
        let (threads, signals, session) = (CallThreads::new()?, Signals::default(), Session::default());
        Ok(Self { shared, threads, config, signals, subscriptions, session, questions: OpenQuestions::default() })
    }

    /// Returns what this server's connection tells.
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    fn has_tool(&self, name: &str) -> bool {
        self.shared.tools.iter().any(|tool| tool.name() == name)
    }

    /// Reads from the home on a thread of its own.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, ErrorData> + Send + 'static,
    ) -> Result<T, ErrorData> {
        let shared = Arc::clone(&self.shared);
        self.threads.run(move |_| work(&shared.core)).await.unwrap_or_else(|Panicked(words)| {
            let text =
                format!("this failed inside moadim-mcp: {words}. This is a bug; the server's stderr has the details");
            Err(ErrorData::internal_error(text, None))
        })
    }

    fn named(&self, uri: &str) -> Result<Topic, ErrorData> {
        let unknown = || resources::not_found(uri, format!("there is no resource '{}'", shortened(uri, 80)));
        resources::topic(uri).ok_or_else(unknown)
    }
}

/// Tells whether a request is of a client that introduces itself in each.
pub(super) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

/// Returns what names us in the answer to a request, where its client has not seen a handshake.
pub(super) fn signature(context: &RequestContext<RoleServer>) -> Option<MetaObject> {
    if is_modern(context) { identity::signature() } else { None }
}

/// Marks an answer as one that never changes while we run, for clients that may keep it.
macro_rules! for_good {
    ($result:ident, $context:ident) => {
        cached!($result, $context, CACHE_MS, CacheScope::Public)
    };
}

/// Marks an answer as one that may be another a moment later.
macro_rules! for_now {
    ($result:ident, $context:ident) => {
        cached!($result, $context, 0, CacheScope::Private)
    };
}

macro_rules! cached {
    ($result:ident, $context:ident, $ttl_ms:expr, $scope:expr) => {
        if is_modern(&$context) {
            $result.ttl_ms = Some($ttl_ms);
            $result.cache_scope = Some($scope);
            $result.meta = signature(&$context);
        }
    };
}

type Page = Option<PaginatedRequestParams>;
type Context = RequestContext<RoleServer>;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        self.config.clone()
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: Context,
    ) -> Result<InitializeResult, ErrorData> {
        let mut answer = self.negotiate_initialize(&request)?;
        // The only one is that of tasks, which need an answer that this era does not have.
        answer.capabilities.extensions = None;
        // What was agreed on counts from here on, not what the client asked for.
        context.peer.set_peer_info(request.with_protocol_version(answer.protocol_version.clone()));
        Ok(answer)
    }

    async fn discover(&self, _: Context) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        let mut result = DiscoverResult::from_server_info(versions, self.get_info());
        result.ttl_ms = CACHE_MS;
        result.cache_scope = CacheScope::Public;
        Ok(result)
    }

    async fn list_tools(&self, _: Page, context: Context) -> Result<ListToolsResult, ErrorData> {
        let listed = self.shared.tools.iter().map(|tool| tool.definition().clone()).collect();
        let mut result = ListToolsResult::with_all_items(listed);
        for_good!(result, context);
        Ok(result)
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: Context) -> Result<CallToolResponse, ErrorData> {
        self.call(request, &context).await
    }

    async fn list_resources(&self, page: Page, context: Context) -> Result<ListResourcesResult, ErrorData> {
        if !is_modern(&context) {
            // Whoever keeps a list wants to know when it is another; a modern client says so itself.
            if let Err(error) = self.session.add(Topic::Lists, &self.subscriptions, &context.peer).await {
                tracing::warn!(%error, "changes of the lists are not told");
            }
        }
        let cursor = page.and_then(|page| page.cursor);
        let listed = self.read(move |core| resources::list(core, cursor.as_deref())).await?;
        let mut result = ListResourcesResult::with_all_items(listed.resources);
        result.next_cursor = listed.next;
        for_now!(result, context);
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        _: Page,
        context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut result = ListResourceTemplatesResult::with_all_items(resources::templates());
        for_good!(result, context);
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = self.read(move |core| resources::read(core, &request.uri)).await?;
        let mut result = ReadResourceResult::new(vec![contents]);
        for_now!(result, context);
        Ok(result.into())
    }

    async fn subscribe(&self, request: SubscribeRequestParams, context: Context) -> Result<(), ErrorData> {
        let topic = self.named(&request.uri)?;
        self.session.add(topic, &self.subscriptions, &context.peer).await
    }

    async fn unsubscribe(&self, request: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        self.session.remove(&self.named(&request.uri)?).await;
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(listening::accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        listening::listen(&context, &self.subscriptions, &self.signals.closing).await
    }

    async fn complete(&self, request: CompleteRequestParams, context: Context) -> Result<CompleteResult, ErrorData> {
        let mut result = CompleteResult::new(self.read(move |core| completion::complete(core, &request)).await?);
        result.meta = signature(&context);
        Ok(result)
    }

    async fn list_prompts(&self, _: Page, context: Context) -> Result<ListPromptsResult, ErrorData> {
        let mut result = ListPromptsResult::with_all_items(prompts::list(|tool| self.has_tool(tool)));
        for_good!(result, context);
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
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
        let mut result = self.read(move |core| prompts::say(core, known, request.arguments)).await?;
        result.meta = signature(&context);
        Ok(result.into())
    }

    async fn get_task(&self, request: GetTaskParams, context: Context) -> Result<GetTaskResult, ErrorData> {
        let mut result = GetTaskResult::new(self.read(move |core| tasks::look(core, &request.task_id)).await?);
        result.meta = signature(&context);
        Ok(result)
    }

    /// Takes the answers to what a task has asked. None of ours asks anything.
    async fn update_task(&self, request: UpdateTaskParams, _: Context) -> Result<(), ErrorData> {
        self.read(move |core| tasks::check(core, &request.task_id)).await
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: Context) -> Result<(), ErrorData> {
        const TOOL: &str = "stop_run";
        if !self.has_tool(TOOL) {
            let text = format!("runs are not ended here, for this server does not serve `{TOOL}`");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, text, None));
        }
        self.read(move |core| tasks::cancel(core, &request.task_id)).await
    }

    /// What rmcp could not make sense of: a method that we do not have, or one that we have with other parameters.
    async fn on_custom_request(&self, request: CustomRequest, context: Context) -> Result<CustomResult, ErrorData> {
        let of_the_other_era = if is_modern(&context) { &LEGACY_METHODS[..] } else { &MODERN_METHODS[..] };
        if of_the_other_era.contains(&request.method.as_str()) {
            return Err(no_method(&request.method));
        }
        let params = request.params.unwrap_or(Value::Null);
        let reason = match request.method.as_str() {
            CallToolRequestMethod::VALUE => misfit::<CallToolRequestParams>(params),
            CompleteRequestMethod::VALUE => misfit::<CompleteRequestParams>(params),
            GetPromptRequestMethod::VALUE => misfit::<GetPromptRequestParams>(params),
            InitializeResultMethod::VALUE => misfit::<InitializeRequestParams>(params),
            ReadResourceRequestMethod::VALUE => misfit::<ReadResourceRequestParams>(params),
            SubscribeRequestMethod::VALUE => misfit::<SubscribeRequestParams>(params),
            UnsubscribeRequestMethod::VALUE => misfit::<UnsubscribeRequestParams>(params),
            GetTaskMethod::VALUE => misfit::<GetTaskParams>(params),
            UpdateTaskMethod::VALUE => misfit::<UpdateTaskParams>(params),
            CancelTaskMethod::VALUE => misfit::<CancelTaskParams>(params),
            ListToolsRequestMethod::VALUE
            | ListResourcesRequestMethod::VALUE
            | ListResourceTemplatesRequestMethod::VALUE
            | ListPromptsRequestMethod::VALUE
            | DiscoverRequestMethod::VALUE
            | PingRequestMethod::VALUE
            | SubscriptionsListenRequestMethod::VALUE => MISFIT.to_owned(),
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

const MISFIT: &str = "they do not fit the method";

fn misfit<T: serde::de::DeserializeOwned>(params: Value) -> String {
    match serde_path_to_error::deserialize::<_, T>(params) {
        Ok(_) => MISFIT.to_owned(),
        Err(error) => shortened(&error.to_string(), 200),
    }
}
