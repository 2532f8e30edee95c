//! The network between two programs: a TCP relay with weather.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Result, io};

const BUFFER: usize = 16 << 10;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They arrive.
    Open,
    /// Connections are refused, the open ones are closed.
    Cut,
    /// Nothing arrives, and nobody is told.
    Stalled,
    /// Questions arrive, answers do not, and nobody is told.
    AnswersLost,
}

/// A relay from one address to the first of several that answers.
#[derive(Debug)]
pub struct Link {
    /// Where it listens.
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    relay: JoinHandle<()>,
}

impl Link {
    /// Listens; connects onwards to the targets in turn.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn open(address: SocketAddr, targets: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(io(address))?;
        let address = listener.local_addr().map_err(io(address))?;
        let (weather, seen) = watch::channel(Weather::Open);
        let relay = tokio::spawn(relay(listener, Arc::new(targets), seen));
        Ok(Self { address, weather, relay })
    }

    /// Changes the weather, for what is under way too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_if_modified(|now| std::mem::replace(now, weather) != weather);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, targets: Arc<Vec<SocketAddr>>, weather: watch::Receiver<Weather>) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        let (targets, turn, weather) = (Arc::clone(&targets), Arc::clone(&turn), weather.clone());
        tokio::spawn(async move {
            if let Some(far) = connect(&targets, &turn).await {
                carry(near, far, weather).await;
            }
        });
    }
}

async fn connect(targets: &[SocketAddr], turn: &AtomicUsize) -> Option<TcpStream> {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for step in 0..targets.len() {
        let target = targets.get((first + step) % targets.len())?;
        if let Ok(stream) = TcpStream::connect(target).await {
            return Some(stream);
        }
    }
    None
}

/// Until one side closes, or the weather says so.
async fn carry(near: TcpStream, far: TcpStream, mut weather: watch::Receiver<Weather>) {
    drop((near.set_nodelay(true), far.set_nodelay(true)));
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let (mut question, mut answer) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut lost = false;
    loop {
        let now = *weather.borrow_and_update();
        // A stream with a hole in it is no TLS any more: it ends with the weather that made the hole.
        if now == Weather::Cut || (lost && now != Weather::AnswersLost) {
            return;
        }
        let flows = now != Weather::Stalled;
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            read = near_read.read(&mut question), if flows => match read {
                Ok(count) if count > 0 => {
                    let Some(bytes) = question.get(..count) else { return };
                    if far_write.write_all(bytes).await.is_err() { return }
                }
                Ok(_) | Err(_) => return,
            },
            read = far_read.read(&mut answer), if flows => match read {
                Ok(count) if count > 0 => {
                    if now == Weather::AnswersLost {
                        lost = true;
                        continue;
                    }
                    let Some(bytes) = answer.get(..count) else { return };
                    if near_write.write_all(bytes).await.is_err() { return }
                }
                Ok(_) | Err(_) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(200);

    /// Answers each byte with the next one.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        if stream.write_u8(byte + 1).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_u8(byte).await.ok()?;
        timeout(SOON, stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn each_weather_is_what_it_says() {
        let link =
            Link::open("127.0.0.1:0".parse().expect("an address"), vec![echo().await]).await.expect("it listens");
        let mut stream = TcpStream::connect(link.address).await.expect("open");
        assert_eq!(ask(&mut stream, 1).await, Some(2));
        link.set(Weather::Stalled);
        assert_eq!(ask(&mut stream, 5).await, None);
        link.set(Weather::Open);
        assert_eq!(timeout(SOON, stream.read_u8()).await.expect("it was only late").expect("whole"), 6);
        link.set(Weather::AnswersLost);
        assert_eq!(ask(&mut stream, 7).await, None);
        link.set(Weather::Open);
        assert!(timeout(SOON, stream.read_u8()).await.expect("closed at once").is_err());
        link.set(Weather::Cut);
        let mut refused = TcpStream::connect(link.address).await.expect("the relay itself listens");
        assert_eq!(ask(&mut refused, 1).await, None);
    }
}
