//! Taking a port, and what one is told who cannot have it.

use crate::Error;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Listens on `address`, which the option `flag` named; gives the address that it became.
pub(crate) async fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), Error> {
    let hint = |e: &std::io::Error| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("; another program listens there: choose another with {flag}, or port 0 for a free one")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("; ports below 1024 need rights: choose another with {flag}")
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address".to_owned(),
        _ => String::new(),
    };
    let bound = match TcpListener::bind(address).await {
        // Every address of a machine without IPv6 is one of IPv4.
        Err(error) if address.ip() == std::net::Ipv6Addr::UNSPECIFIED && no_ipv6(&error) => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    let bound = bound.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| Error::Listen { address: address.to_string(), hint: hint(&source), source })
}

fn no_ipv6(error: &std::io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}
