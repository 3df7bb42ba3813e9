//! The floor for `benches/ingest.py`: a bare hyper server that reads each request's body and answers 200 with a short
//! fixed one. The same hyper, runtime and allocator as weir's, and nothing else.
//!
//! usage: `bare_http ADDRESS [--unread]`; with `--unread` it does not even look at bodies.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use logweir::base::task;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

async fn answer(request: Request<Incoming>, read: bool) -> Result<Response<Full<Bytes>>, Infallible> {
    if read {
        request.into_body().collect().await.ok();
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"accepted\":1,\"dropped\":0}")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let read = args.next().is_none();
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(move |request| answer(request, read));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        drop(task::spawn(connection));
    }
}
