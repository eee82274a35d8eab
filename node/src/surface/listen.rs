//! The listeners: TCP, and the Unix socket that only the node's owner may use.
//!
//! The socket's file is 0600 in a folder that is 0700; beyond that, each connection's caller is
//! asked of the kernel (`SO_PEERCRED`, `LOCAL_PEERCRED` on macOS): the owner or root, else the
//! connection is closed before a byte is read (T26).

use crate::api::Problem;
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Binds the TCP listener.
///
/// # Errors
/// `port_taken` or `api_unavailable`.
pub(super) async fn tcp(api: SocketAddr) -> Result<TcpListener, Problem> {
    TcpListener::bind(api)
        .await
        .map_err(|cause| match cause.kind() {
            ErrorKind::AddrInUse => Problem::new(
                "port_taken",
                1,
                format!("the API's port is taken: something listens on {api} already"),
                "end it, or choose another: --api 127.0.0.1:0 takes any free port",
            ),
            _ => Problem::new(
                "api_unavailable",
                1,
                format!("cannot listen on {api}: {cause}"),
                "",
            ),
        })
}

#[cfg(unix)]
pub(super) use unix::OwnerOnly;

#[cfg(unix)]
mod unix {
    use crate::api::Problem;
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::time::Duration;
    use tokio::net::unix::SocketAddr;
    use tokio::net::{UnixListener, UnixStream};

    /// How long to wait when the system has no room for another connection.
    const PAUSE: Duration = Duration::from_millis(200);

    /// A Unix socket that hears its owner and root.
    #[derive(Debug)]
    pub(in crate::surface) struct OwnerOnly {
        listener: UnixListener,
        path: PathBuf,
        owner: u32,
    }

    impl OwnerOnly {
        /// Binds the socket at `path`. Whoever calls holds the lock of the folder, so a socket that
        /// is there already is what a killed process left behind.
        ///
        /// # Errors
        /// `socket_unavailable`.
        pub(in crate::surface) fn bind(path: &Path) -> Result<Self, Problem> {
            let unavailable = |cause: io::Error| {
                Problem::new(
                    "socket_unavailable",
                    1,
                    format!("cannot listen on {}: {cause}", path.display()),
                    "a socket's path has room for about 100 bytes: try a shorter --home",
                )
            };
            match fs::remove_file(path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(unavailable(cause));
                }
                _ => {}
            }
            let listener = UnixListener::bind(path).map_err(unavailable)?;
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(unavailable)?;
            let owner = fs::metadata(path).map_err(unavailable)?.uid();
            Ok(Self {
                listener,
                path: path.to_owned(),
                owner,
            })
        }

        fn may(&self, stream: &UnixStream) -> bool {
            stream
                .peer_cred()
                .is_ok_and(|peer| [0, self.owner].contains(&peer.uid()))
        }
    }

    impl axum::serve::Listener for OwnerOnly {
        type Io = UnixStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (UnixStream, SocketAddr) {
            loop {
                match self.listener.accept().await {
                    Ok((stream, addr)) if self.may(&stream) => return (stream, addr),
                    Ok(_) => tracing::warn!("another user's connection was refused"),
                    Err(cause) => {
                        tracing::warn!(%cause, "cannot accept a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.listener.local_addr()
        }
    }

    impl Drop for OwnerOnly {
        fn drop(&mut self) {
            // A file that is gone already is what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn the_socket_is_its_owners_alone_and_replaces_one_left_behind() {
            let home = tempfile::tempdir().expect("a folder");
            let path = home.path().join("aquifer.sock");
            drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
            assert!(path.exists(), "a killed process leaves its socket behind");

            let socket = OwnerOnly::bind(&path).expect("it replaces the stale one");
            let mode = fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);

            let client = UnixStream::connect(&path).await.expect("it listens");
            assert!(socket.may(&client), "its owner may");
            let foreign = {
                let mut socket = socket;
                socket.owner += 1;
                socket
            };
            let uid = client.peer_cred().expect("known").uid();
            assert_eq!(
                foreign.may(&client),
                uid == 0,
                "another user may not, unless root"
            );

            drop(foreign);
            assert!(!path.exists(), "nothing is left behind");
        }
    }
}
