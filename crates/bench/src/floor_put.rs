//! The floor of a put: what is left of one when nothing is done but what must be done. An empty gRPC call
//! reaches the first of three bare processes; each writes a record to a file of its own and syncs it, the
//! other two as they are told over loopback; the call is answered once the first and one other have.
//!
//! The processes are this program again, started for the purpose: [`follow`] and [`lead`] are what they
//! run. Nothing is batched, ordered, applied or kept, and each does its syncs on the thread that serves,
//! so that no hand-off adds to the figure.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::connection::Access;
use crate::error::BenchError;
use crate::http2::Channel;
use crate::latency::{Latency, Recorder};
use crate::runtime;

/// What a record takes in a log: a put of 256 bytes with its key and the frames around it.
const RECORD_BYTES: usize = 512;
/// The file written over and over, so that no write makes it grow.
const FILE_BYTES: usize = 4 << 20;
/// Calls before any is counted.
const WARM_UP: usize = 200;
/// How long a process may take to say where it listens.
const READY: Duration = Duration::from_secs(10);

/// The figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct PutFloor {
    /// A call that is answered when a majority has written and synced.
    pub put: Latency,
    /// A call that is answered at once, by the same process.
    pub call: Latency,
}

/// The processes, ended with it.
pub struct Cluster {
    processes: Vec<Child>,
    leader: String,
    folder: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // They hold nothing that would have to be closed in order.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Cluster {
    /// Starts three processes that write to a folder made in `folder`. `program`, with the words of
    /// `follower` or `leader`, runs [`follow`] or [`lead`].
    ///
    /// # Errors
    ///
    /// [`BenchError::Floor`]: a process cannot be started, or does not say where it listens.
    pub fn start(
        program: &Path,
        follower: &[&str],
        leader: &[&str],
        folder: &Path,
    ) -> Result<Cluster, BenchError> {
        let problem = |error| BenchError::Floor { what: "three bare processes", error };
        let folder = folder.join(format!(".jangada-floor-put-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(problem)?;
        let mut cluster = Cluster { processes: Vec::new(), leader: String::new(), folder };
        let mut followers = Vec::new();
        for number in 1..3 {
            let file = cluster.folder.join(format!("follower-{number}"));
            let mut command = Command::new(program);
            command.args(follower).arg(file);
            followers.push(cluster.spawn(command).map_err(problem)?);
        }
        let mut command = Command::new(program);
        command.args(leader).arg(cluster.folder.join("leader")).args(followers);
        cluster.leader = cluster.spawn(command).map_err(problem)?;
        Ok(cluster)
    }

    /// Starts a process, and answers where it listens.
    fn spawn(&mut self, mut command: Command) -> io::Result<String> {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().expect("it was asked for");
        self.processes.push(process);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line).map(|_| line);
            // Nobody listens any more only when the wait was over.
            let _ = sender.send(read);
        });
        let line = receiver.recv_timeout(READY).map_err(|_| io::ErrorKind::TimedOut)??;
        match line.trim() {
            "" => Err(io::ErrorKind::UnexpectedEof.into()),
            address => Ok(address.to_owned()),
        }
    }

    /// Makes calls one after the other for so long, half of the time each kind.
    ///
    /// # Errors
    ///
    /// [`BenchError::Unreachable`]: a call failed.
    pub fn measure(&self, duration: Duration) -> Result<PutFloor, BenchError> {
        let unreachable =
            |problem: String| BenchError::Unreachable { endpoint: self.leader.clone(), problem };
        runtime::block_on(async {
            let channel =
                Channel::open(&self.leader, &Access::default()).await.map_err(unreachable)?;
            let times = async |path| -> Result<Latency, BenchError> {
                let mut recorder = Recorder::default();
                let mut warm_up = WARM_UP;
                let mut end = Instant::now() + duration / 2;
                while Instant::now() < end {
                    let begin = Instant::now();
                    let answer = channel.call(path, ()).await;
                    answer.map_err(|status| unreachable(status.message().to_owned()))?;
                    if 0 < warm_up {
                        warm_up -= 1;
                        end = Instant::now() + duration / 2;
                        continue;
                    }
                    recorder.record(begin.elapsed());
                }
                Ok(recorder.latency())
            };
            Ok(PutFloor { put: times(PUT).await?, call: times(CALL).await? })
        })
    }
}

const PUT: &str = "/floor/Put";
const CALL: &str = "/floor/Call";

/// A file that is written over and over.
struct Log {
    file: File,
    next: usize,
}

impl Log {
    fn create(path: &Path) -> io::Result<Log> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&vec![1; FILE_BYTES])?;
        file.sync_all()?;
        Ok(Log { file, next: 0 })
    }

    fn append(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[2; RECORD_BYTES], (self.next * RECORD_BYTES) as u64)?;
        self.next = (self.next + 1) % (FILE_BYTES / RECORD_BYTES);
        self.file.sync_data()
    }
}

/// Runs a follower until its leader is gone: it writes and syncs each record that comes, and says so.
///
/// # Errors
///
/// What the system said.
pub fn follow(file: &Path) -> io::Result<()> {
    let mut log = Log::create(file)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    let (mut leader, _) = listener.accept()?;
    leader.set_nodelay(true)?;
    let mut record = [0; RECORD_BYTES];
    loop {
        match leader.read_exact(&mut record) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        log.append()?;
        leader.write_all(&[1])?;
    }
}

/// The leader's own log, and its followers.
struct Leader {
    log: Log,
    followers: Vec<tokio::net::TcpStream>,
    /// What each still owes of answers.
    owed: Vec<u64>,
}

/// Runs a leader until it is killed: it serves gRPC.
///
/// # Errors
///
/// What the system said.
pub fn lead(file: &Path, followers: &[SocketAddr]) -> io::Result<()> {
    let log = Log::create(file)?;
    let mut links = Vec::new();
    for follower in followers {
        let link = TcpStream::connect(follower)?;
        link.set_nodelay(true)?;
        link.set_nonblocking(true)?;
        links.push(link);
    }
    runtime::block_on(async {
        let followers: io::Result<Vec<_>> =
            links.into_iter().map(tokio::net::TcpStream::from_std).collect();
        let owed = vec![0; followers.as_ref().map_or(0, Vec::len)];
        let leader = Rc::new(Mutex::new(Leader { log, followers: followers?, owed }));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let leader = Rc::clone(&leader);
            let serve = service_fn(move |request| answer(Rc::clone(&leader), request));
            tokio::task::spawn_local(async move {
                // A client that goes ends its connection, however it likes.
                let _ =
                    http2::Builder::new(Local).serve_connection(TokioIo::new(client), serve).await;
            });
        }
    })
}

/// Runs what a connection starts on the thread that serves it.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn answer(
    leader: Rc<Mutex<Leader>>,
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, io::Error> {
    let (parts, body) = request.into_parts();
    body.collect().await.map_err(io::Error::other)?;
    if parts.uri.path() == PUT {
        leader.lock().await.put().await?;
    }
    let status = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(status)) });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

impl Leader {
    /// Has a majority write and sync a record.
    async fn put(&mut self) -> io::Result<()> {
        let Leader { log, followers, owed } = self;
        for (follower, owed) in followers.iter_mut().zip(owed.iter_mut()) {
            follower.write_all(&[3; RECORD_BYTES]).await?;
            *owed += 1;
        }
        log.append()?;
        // The first that owes nothing more: what it answers may be to an earlier record.
        let [one, other] = &mut followers[..] else {
            return Err(io::Error::other("a leader has two followers"));
        };
        while owed.iter().all(|owed| 0 < *owed) {
            let (mut from_one, mut from_other) = ([0; 64], [0; 64]);
            tokio::select! {
                read = one.read(&mut from_one) => owed[0] -= count(read?)?,
                read = other.read(&mut from_other) => owed[1] -= count(read?)?,
            }
        }
        Ok(())
    }
}

/// Answers that came; none at all is the end.
fn count(read: usize) -> io::Result<u64> {
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read as u64) }
}
