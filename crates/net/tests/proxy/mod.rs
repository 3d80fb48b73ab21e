//! A plain TCP proxy whose connections can be cut, and which can stop relaying.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What becomes of new connections.
#[derive(Clone, Copy)]
enum Mode {
    Relay,
    Swallow,
    Close,
}

/// The proxy. Its tasks end with the test's runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Rc<Cell<Mode>>,
    target: Rc<Cell<SocketAddr>>,
    relays: Rc<RefCell<Vec<AbortHandle>>>,
}

impl Proxy {
    /// A proxy in front of `target`, on a port that the system chooses.
    pub(crate) async fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let proxy = Proxy {
            address: listener.local_addr().expect("a bound socket has an address"),
            mode: Rc::new(Cell::new(Mode::Relay)),
            target: Rc::new(Cell::new(target)),
            relays: Rc::default(),
        };
        let (mode, target) = (Rc::clone(&proxy.mode), Rc::clone(&proxy.target));
        let relays = Rc::clone(&proxy.relays);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the proxy accepts");
                let relay = relay(stream, target.get(), mode.get());
                relays.borrow_mut().push(tokio::task::spawn_local(relay).abort_handle());
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.relays.borrow_mut().drain(..).for_each(|relay| relay.abort());
    }

    /// New connections lead elsewhere.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.set(target);
    }

    /// New connections are relayed.
    pub(crate) fn relay(&self) {
        self.mode.set(Mode::Relay);
    }

    /// New connections are held and lead nowhere.
    pub(crate) fn swallow(&self) {
        self.mode.set(Mode::Swallow);
    }

    /// New connections are closed.
    pub(crate) fn close(&self) {
        self.mode.set(Mode::Close);
    }
}

async fn relay(mut stream: TcpStream, target: SocketAddr, mode: Mode) {
    match mode {
        Mode::Relay => {
            if let Ok(mut other) = TcpStream::connect(target).await {
                // Either end may break; the test sees what becomes of it.
                let _ = copy_bidirectional(&mut stream, &mut other).await;
            }
        }
        Mode::Swallow => std::future::pending().await,
        Mode::Close => drop(stream),
    }
}
