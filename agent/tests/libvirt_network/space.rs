//! A network namespace, and what a test does in one.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::SHORT;

/// A network namespace, held open by a process that is ended with the test.
pub(crate) struct Space(pub(crate) Child);

impl Space {
    pub(crate) fn new() -> Self {
        let held = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let space = Self(held);
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(space.path()).is_ok_and(|found| found == ours) {
            assert!(Instant::now() < end, "the namespace does not come up");
            std::thread::yield_now();
        }
        space
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Runs something on a thread that lives in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = self.path();
        std::thread::spawn(move || {
            let file = std::fs::File::open(path).unwrap();
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    pub(crate) fn sh(&self, script: &str) {
        let script = script.to_owned();
        let output = self.run(move || Command::new("sh").args(["-ec", &script]).output().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Greets everybody who connects with `greeting` and the address from which they seem to come.
    pub(crate) fn serve(&self, address: impl Into<IpAddr>, port: u16, greeting: &'static str) {
        let address = SocketAddr::new(address.into(), port);
        let (ready, is_ready) = sync_channel(1);
        self.spawn(move || {
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for mut stream in listener.incoming().flatten() {
                let from = stream.peer_addr().map(|peer| peer.ip());
                let _ = write!(stream, "{greeting} {}", from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
            }
        });
        is_ready.recv().unwrap();
    }

    /// What a server says; none when nobody answers in time.
    pub(crate) fn ask(&self, address: impl Into<IpAddr>, port: u16) -> Option<String> {
        self.connect(address, port).ok()
    }

    pub(crate) fn connect(&self, address: impl Into<IpAddr>, port: u16) -> Result<String, std::io::ErrorKind> {
        let address = SocketAddr::new(address.into(), port);
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&address, SHORT).map_err(|error| error.kind())?;
            stream.set_read_timeout(Some(SHORT)).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).map_err(|error| error.kind())?;
            Ok(said)
        })
    }

    pub(crate) fn listen_udp(&self, port: u16) -> Receiver<SocketAddr> {
        let (arrived, arrivals) = sync_channel(16);
        let (ready, is_ready) = sync_channel(1);
        self.spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            ready.send(()).unwrap();
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                if arrived.send(from).is_err() {
                    return;
                }
            }
        });
        is_ready.recv().unwrap();
        arrivals
    }

    pub(crate) fn send_udp(&self, from_port: u16, to: Ipv4Addr, port: u16) {
        self.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, from_port)).unwrap();
            socket.set_broadcast(true).unwrap();
            let _ = socket.send_to(b"x", (to, port));
        });
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
