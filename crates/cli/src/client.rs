//! Asks a cluster: members in turn, within one deadline.
//!
//! Invariants: 1. a read goes on to the next member when one fails; 2. a write that may have been
//! sent is never sent again, since it may have happened.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use jangada_bench::Access;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb::AuthenticateRequest;
use jangada_server::proto::etcdserverpb::auth_client::AuthClient;
use jangada_tls::{Dialer, TlsStream};
use tokio::net::TcpStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{self, Endpoint};
use tonic::{Code, Request, Status};

use crate::arguments;
use crate::failure::Failure;

/// How long one connection may take to open; etcdctl's dial timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Errors after which nothing was proposed, though their code leaves it open.
const REFUSALS: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
];

/// A connection to a member, on which every request says who asks.
pub(crate) type Channel = InterceptedService<transport::Channel, Token>;

/// What says who asks; nothing for a command without a user.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<AsciiMetadataValue>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A command's way to the cluster.
pub(crate) struct Client {
    /// Name and password.
    user: Option<(String, String)>,
    /// The user's token, good on every member.
    token: OnceLock<Token>,
    endpoints: Vec<String>,
    tls: arguments::Tls,
    /// Made when the first endpoint wants it.
    dialer: OnceLock<Result<Arc<Dialer>, String>>,
    deadline: Instant,
    timeout: Duration,
}

/// Whether an attempt may be made again elsewhere.
enum Attempt {
    /// The connection could not be opened: nothing was sent.
    NotSent(String),
    /// No answer, or one that leaves the outcome open.
    Open(String),
    /// The cluster's own word.
    Refused(Status),
}

impl Client {
    /// A client whose time begins now.
    pub(crate) fn new(options: &arguments::Client) -> Client {
        Client {
            user: options.login.user(),
            token: OnceLock::new(),
            endpoints: options.endpoints(),
            tls: options.tls.clone(),
            dialer: OnceLock::new(),
            deadline: Instant::now() + options.timeout,
            timeout: options.timeout,
        }
    }

    /// The members to ask.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Runs a command on a runtime with one thread.
    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of one thread needs nothing that can be missing")
            .block_on(future)
    }

    /// Asks the members in turn until one answers.
    pub(crate) async fn read<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let mut problems = Vec::new();
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let share = self.share(self.endpoints.len() - number);
            match self.attempt(endpoint, share, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Refused(status)) => return Err(refused(&status)),
                Err(Attempt::NotSent(problem) | Attempt::Open(problem)) => {
                    problems.push(format!("{endpoint}: {problem}"));
                }
            }
        }
        Err(self.nobody(&problems))
    }

    /// Sends a write once: to the first member that can be reached.
    pub(crate) async fn write<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let mut problems = Vec::new();
        for endpoint in &self.endpoints {
            match self.attempt(endpoint, self.share(1), &call).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Refused(status)) => return Err(refused(&status)),
                Err(Attempt::Open(problem)) => {
                    return Err(Failure::Failed(format!(
                        "{endpoint}: {problem}; the write may or may not have happened, so it was \
                         not sent again: read before you repeat it"
                    )));
                }
                Err(Attempt::NotSent(problem)) => problems.push(format!("{endpoint}: {problem}")),
            }
        }
        Err(self.nobody(&problems))
    }

    /// Asks one member alone.
    pub(crate) async fn ask<T>(
        &self,
        endpoint: &str,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Result<T, String> {
        self.attempt(endpoint, self.share(1), &call).await.map_err(|attempt| match attempt {
            Attempt::NotSent(problem) | Attempt::Open(problem) => problem,
            Attempt::Refused(status) => status.message().to_owned(),
        })
    }

    /// A connection to the first member that can be reached, and which that is.
    pub(crate) async fn connect_any(&self) -> Result<(String, Channel), Failure> {
        let mut problems = Vec::new();
        for endpoint in &self.endpoints {
            match self.connect(endpoint, self.share(1).min(CONNECT_TIMEOUT)).await {
                Ok(channel) => {
                    let named = tokio::time::timeout(self.share(1), self.log_in(channel)).await;
                    let named = named.map_err(|_| self.nobody(&problems))?;
                    let channel = named.map_err(|status| refused(&status))?;
                    return Ok((endpoint.clone(), channel));
                }
                Err(problem) => problems.push(format!("{endpoint}: {problem}")),
            }
        }
        Err(self.nobody(&problems))
    }

    /// How a benchmark reaches the members, and on whose behalf: their endpoints with a scheme, and what
    /// goes with them.
    pub(crate) async fn access(&self) -> Result<(Vec<String>, Access), Failure> {
        let mut access = Access::default();
        let mut endpoints = Vec::new();
        for endpoint in &self.endpoints {
            let authority = endpoint.split_once("://").map_or(&**endpoint, |(_, rest)| rest);
            let is_secured = self.tls.secures(endpoint);
            if is_secured && access.dialer.is_none() {
                let dialer = self.dialer.get_or_init(|| self.tls.dialer().map(Arc::new)).clone();
                access.dialer = Some(dialer.map_err(Failure::Failed)?);
            }
            let scheme = if is_secured { "https" } else { "http" };
            endpoints.push(format!("{scheme}://{authority}"));
        }
        if self.user.is_some() {
            self.connect_any().await?;
            let token = self.token.get().and_then(|token| token.0.as_ref());
            let value = token.map(|token| HeaderValue::from_bytes(token.as_encoded_bytes()));
            access.token = value
                .transpose()
                .map_err(|_| Failure::Failed("the token of the member is no header".to_owned()))?;
        }
        Ok((endpoints, access))
    }

    /// The time left, divided among the members still to ask, so that one which hangs leaves time
    /// for the others.
    fn share(&self, members: usize) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left / u32::try_from(members.max(1)).unwrap_or(u32::MAX)
    }

    async fn attempt<T>(
        &self,
        endpoint: &str,
        time: Duration,
        call: &impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Result<T, Attempt> {
        let begin = Instant::now();
        let channel =
            self.connect(endpoint, time.min(CONNECT_TIMEOUT)).await.map_err(Attempt::NotSent)?;
        let left = time.saturating_sub(begin.elapsed());
        let late = || format!("no answer within {:.1} s", time.as_secs_f64());
        let channel = match tokio::time::timeout(left, self.log_in(channel)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(status)) => {
                return Err(match judge(status) {
                    Attempt::Open(problem) => Attempt::NotSent(problem),
                    refused => refused,
                });
            }
            Err(_) => return Err(Attempt::NotSent(late())),
        };
        let left = time.saturating_sub(begin.elapsed());
        match tokio::time::timeout(left, call(channel)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(judge(status)),
            Err(_) => Err(Attempt::Open(late())),
        }
    }

    /// Has the requests of a connection say who asks. The password is shown once to one member.
    pub(crate) async fn log_in(&self, channel: transport::Channel) -> Result<Channel, Status> {
        let token = match (&self.user, self.token.get()) {
            (None, _) => Token::default(),
            (Some(_), Some(token)) => token.clone(),
            (Some((name, password)), None) => {
                let request =
                    AuthenticateRequest { name: name.clone(), password: password.clone() };
                let token = match AuthClient::new(channel.clone()).authenticate(request).await {
                    Ok(answer) => {
                        let text = answer.into_inner().token;
                        let value = AsciiMetadataValue::try_from(text);
                        Token(Some(value.map_err(|_| Status::internal("the token is no header"))?))
                    }
                    // Nobody is asked who he is: as etcd's clients, go on without.
                    Err(status) if status.message() == ApiError::AuthNotEnabled.text() => {
                        Token::default()
                    }
                    Err(status) => return Err(status),
                };
                self.token.get_or_init(|| token).clone()
            }
        };
        Ok(InterceptedService::new(channel, token))
    }

    /// Opens a connection now, so that a failure to connect is known to have sent nothing.
    async fn connect(&self, endpoint: &str, time: Duration) -> Result<transport::Channel, String> {
        let authority = endpoint.split_once("://").map_or(endpoint, |(_, authority)| authority);
        let authority = authority.trim_end_matches('/').to_owned();
        let at = |scheme: &str| format!("{scheme}://{authority}");
        let channel = Endpoint::from_shared(at("http"))
            .map_err(|_| "that is no endpoint; write host:port".to_owned())?
            .connect_timeout(time)
            .tcp_nodelay(true);
        let connecting = async {
            if !self.tls.secures(endpoint) {
                return channel.connect().await;
            }
            let dialer = self.dialer.get_or_init(|| self.tls.dialer().map(Arc::new)).clone();
            let origin = at("https").parse().expect("it was parsed with another scheme");
            let authority = authority.clone();
            let connect =
                tower::service_fn(move |_: Uri| secured(authority.clone(), dialer.clone()));
            channel.origin(origin).connect_with_connector(connect).await
        };
        match tokio::time::timeout(time, connecting).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err(format!("no connection within {:.1} s", time.as_secs_f64())),
        }
    }

    fn nobody(&self, problems: &[String]) -> Failure {
        if problems.is_empty() {
            return Failure::Usage("there is no endpoint; name one with --endpoints".to_owned());
        }
        Failure::Failed(format!(
            "no member answered within {:.1} s ({}); check that the cluster runs, and that these \
             are its endpoints",
            self.timeout.as_secs_f64(),
            problems.join("; ")
        ))
    }
}

/// Whether a member says that it proposed nothing.
pub(crate) fn is_refusal(status: &Status) -> bool {
    REFUSALS.contains(&status.message())
}

fn judge(status: Status) -> Attempt {
    if is_refusal(&status) {
        return Attempt::Refused(status);
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            // What broke under the call says more than that something did.
            let broke = std::error::Error::source(&status).map(root_cause);
            Attempt::Open(broke.unwrap_or_else(|| status.message().to_owned()))
        }
        _ => Attempt::Refused(status),
    }
}

fn refused(status: &Status) -> Failure {
    match status.code() {
        Code::Unimplemented => Failure::Failed(format!(
            "the member does not know this request ({}); it may be of another version",
            status.message()
        )),
        _ => Failure::Failed(status.message().to_owned()),
    }
}

/// A connection over TLS.
async fn secured(
    authority: String,
    dialer: Result<Arc<Dialer>, String>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let dialer = dialer.map_err(io::Error::other)?;
    let stream = TcpStream::connect(&authority).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(dialer.connect(host_of(&authority), stream).await?))
}

/// `host` of `host:port`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The last of an error's causes, which says most.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_a_write_open_is_told_from_a_refusal() {
        let open = |status| matches!(judge(status), Attempt::Open(_));
        assert!(open(Status::unavailable("etcdserver: request timed out")));
        assert!(open(Status::unavailable("transport error")));
        assert!(open(Status::unknown("h2 protocol error")));
        assert!(!open(Status::unavailable("etcdserver: no leader")));
        assert!(!open(Status::invalid_argument("etcdserver: key is not provided")));
        assert!(!open(Status::resource_exhausted("etcdserver: too many requests")));
    }
}
