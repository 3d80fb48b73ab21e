//! Members and endpoints that are found in DNS, with a DNS server of this test's own.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::MessageBuilder;
use domain::base::{Message, Name, Ttl};
use domain::rdata::Srv;
use support::cluster::{Plan, Program};
use support::process::Process;
use support::{run, until};
use tokio::net::UdpSocket;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

type Records = BTreeMap<String, Vec<(u16, String)>>;

/// A server that knows SRV records alone: the ports and hosts of each name.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
}

impl Server {
    async fn start() -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("the loopback has ports");
        let address = socket.local_addr().expect("it is bound");
        let server = Server { address, records: Arc::default() };
        let records = Arc::clone(&server.records);
        tokio::spawn(async move {
            let mut bytes = [0; 1232];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.expect("it is open");
                let question = Message::from_octets(bytes[..length].to_vec()).expect("a message");
                let answer = answer(&question, &records.lock().expect("no test panics with it"));
                socket.send_to(&answer, from).await.expect("it is open");
            }
        });
        server
    }

    fn set(&self, name: &str, places: &[(u16, &str)]) {
        let places = places.iter().map(|(port, host)| (*port, (*host).to_owned())).collect();
        self.records.lock().expect("no test panics with it").insert(name.to_owned(), places);
    }

    fn resolver(&self) -> String {
        format!("--discovery-srv-resolver={}", self.address)
    }
}

fn answer(question: &Message<Vec<u8>>, records: &Records) -> Vec<u8> {
    let asked = question.sole_question().expect("one question");
    let name = asked.qname().to_string().to_ascii_lowercase();
    let places = records.get(name.trim_end_matches('.'));
    let code = if places.is_some() { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut answer = MessageBuilder::new_vec().start_answer(question, code).expect("it has room");
    for (port, host) in places.into_iter().flatten() {
        let host = Name::<Vec<u8>>::from_str(&format!("{host}.")).expect("a good name");
        let srv = Srv::new(0, 0, *port, host);
        answer.push((asked.qname(), Class::IN, Ttl::from_secs(1), srv)).expect("it has room");
    }
    answer.finish()
}

fn port(url: &str) -> u16 {
    url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a URL with a port")
}

/// What a command printed, and how it ended.
async fn ended(mut process: Process) -> (Option<i32>, String) {
    let status = process.ended().await;
    (status.code(), process.log())
}

#[test]
fn members_find_one_another_and_clients_find_them() {
    run(LIMIT, async {
        let server = Server::start().await;
        let mut cluster = Plan::new(Program::Jangada, 3)
            .flag("discovery-srv", "cluster.test")
            .flag("discovery-srv-name", "blue")
            .flag("discovery-srv-resolver", server.address)
            .prepare();
        let urls = |url: fn(&support::cluster::Member) -> &str| -> Vec<u16> {
            cluster.members.iter().map(|member| port(url(member))).collect()
        };
        let (peers, clients) = (urls(|member| &member.peer_url), urls(|member| &member.client_url));
        let places =
            |ports: &[u16]| ports.iter().map(|port| (*port, "localhost")).collect::<Vec<_>>();
        server.set("_etcd-server-blue._tcp.cluster.test", &places(&peers));
        server.set("_etcd-client._tcp.cluster.test", &places(&clients));
        for member in 0..3 {
            cluster.start_with(member, &["--initial-cluster="]);
        }
        for member in 0..3 {
            cluster.ready(member).await;
        }
        // Under their own names, as soon as these are published.
        until(async || {
            let members = cluster.client(0).member_list().await.ok()?.members;
            let mut names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
            names.sort_unstable();
            (names == ["m1", "m2", "m3"]).then_some(())
        })
        .await;

        let home = cluster.home().to_owned();
        let client = |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
            command.args(words).arg("--discovery-srv=cluster.test").arg(server.resolver());
            let log = home.join(format!("{}.log", words.join("-")));
            ended(Process::start("client", command, &log))
        };
        assert_eq!(client(&["put", "a", "1"]).await, (Some(0), "OK\n".to_owned()));
        assert_eq!(client(&["get", "a"]).await, (Some(0), "a\n1\n".to_owned()));
        let (status, log) = client(&["get", "a", "--insecure-discovery=false"]).await;
        assert_eq!(status, Some(1));
        assert!(log.contains("plain text alone"), "{log}");

        // What a member is, it knows by itself once it has data.
        server.records.lock().expect("no test panics with it").clear();
        cluster.kill(0).await;
        cluster.start_with(0, &["--initial-cluster="]);
        cluster.ready(0).await;
        let (status, log) = client(&["get", "b"]).await;
        assert_eq!(status, Some(1));
        assert!(log.contains("_etcd-client._tcp.cluster.test: no such host"), "{log}");
    });
}

#[test]
fn a_member_that_the_records_do_not_name_does_not_start() {
    run(LIMIT, async {
        let server = Server::start().await;
        let cluster = Plan::new(Program::Jangada, 1)
            .flag("discovery-srv", "cluster.test")
            .flag("discovery-srv-resolver", server.address)
            .prepare();
        let own = port(&cluster.members[0].peer_url);
        let start = |flags: &[&str]| {
            let mut command = cluster.command(0);
            command.args(flags);
            let log = cluster.home().join(format!("start-{}.log", fastrand::u64(..)));
            ended(Process::start("member", command, &log))
        };
        let empty = "--initial-cluster=";
        let (status, log) = start(&[]).await;
        assert_eq!(status, Some(2));
        assert!(log.contains("--discovery-srv says who the members are, too"), "{log}");
        let (status, log) = start(&[empty]).await;
        assert_eq!(status, Some(1));
        assert!(log.contains("_etcd-server-ssl._tcp.cluster.test: no such host"), "{log}");
        server.set("_etcd-server._tcp.cluster.test", &[(1, "localhost")]);
        let (status, log) = start(&[empty]).await;
        assert_eq!(status, Some(1));
        assert!(log.contains("the records name http://localhost:1"), "{log}");
        server.set("_etcd-server-ssl._tcp.cluster.test", &[(own, "localhost")]);
        let (status, log) = start(&[empty]).await;
        assert_eq!(status, Some(1));
        assert!(log.contains("scheme mismatch"), "{log}");
        let (status, log) = start(&[empty, "--discovery-srv-resolver=nowhere"]).await;
        assert_eq!(status, Some(2));
        assert!(log.contains("an address with a port"), "{log}");
    });
}
