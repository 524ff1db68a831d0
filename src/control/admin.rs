//! The admin port: a small HTTP/1.1 server on the control thread, for operators and their tools.
//!
//! In: connections, each with requests one after the other. Out: [`pages`](super::pages). What must stay true: it never
//! waits for one client while others want something, and nobody can make it hold much: [`CONNECTIONS_MAX`] clients with
//! [`HEAD_BYTES_MAX`] each, every one under a time limit; when they are all there, one that asks nothing makes room for
//! one that comes, such as a probe. A request has no body; what cannot be read is answered and
//! the connection closed.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::desk::Desk;
use super::pages::{self, Page, Question};
use super::runtime::{Listener, Stream, spawn};

/// Clients at the same time; further ones are told to come again while all of these ask something.
const CONNECTIONS_MAX: usize = 64;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;

const FIELDS_MAX: usize = 64;

/// How long a request or a reply may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may stay without asking: several intervals of a scraper.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// How long accepting pauses when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one listening socket for ever.
pub(super) async fn serve(listener: Listener, desk: Rc<Desk>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (place, stream) = (Place::take(&desk), Rc::new(stream));
        spawn(async move {
            match place {
                Some(place) => converse(&stream, peer.ip(), &place.0).await,
                None => {
                    send(&stream, &Page::problem(503, "too many connections; come again"), true, false).await;
                }
            }
            // An operation that was given up holds the descriptor until it ends.
            stream.shutdown();
        });
    }
}

/// One of [`CONNECTIONS_MAX`].
struct Place(Rc<Desk>);

impl Place {
    fn take(desk: &Rc<Desk>) -> Option<Place> {
        if desk.open.get() >= CONNECTIONS_MAX {
            // Browsers keep connections for minutes and open new ones when they need them.
            desk.idle.borrow_mut().pop_front()?.shutdown();
        }
        desk.open.set(desk.open.get() + 1);
        Some(Place(Rc::clone(desk)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// Answers one client's requests until either side ends it.
async fn converse(stream: &Rc<Stream>, peer: IpAddr, desk: &Desk) {
    let mut received = Vec::new();
    loop {
        if received.is_empty() && receive_first(stream, &mut received, desk).await.is_none() {
            return;
        }
        let (page, has_body, goes_on) = match next_question(stream, &mut received).await {
            Some(Ok(question)) => {
                let page = pages::answer(&question, peer, desk).await;
                (page, !question.is_head, question.goes_on)
            }
            Some(Err(page)) => (page, true, false),
            None => return,
        };
        if !send(stream, &page, has_body, goes_on).await || !goes_on {
            return;
        }
    }
}

/// Waits for the begin of a request; `None` when the client has left, asks nothing, or has made room for another.
async fn receive_first(stream: &Rc<Stream>, received: &mut Vec<u8>, desk: &Desk) -> Option<()> {
    desk.idle.borrow_mut().push_back(Rc::clone(stream));
    let begin = timeout(IDLE_LIMIT, stream.receive(received)).await;
    desk.idle.borrow_mut().retain(|it| !Rc::ptr_eq(it, stream));
    begin.ok()?
}

/// Receives until a request is whole; `None` when the client has left.
async fn next_question(stream: &Stream, received: &mut Vec<u8>) -> Option<Result<Question, Page>> {
    let rest = async {
        loop {
            if let Some(parsed) = parse(received) {
                return Some(parsed);
            }
            stream.receive(received).await?;
        }
    };
    match timeout(TRANSFER_LIMIT, rest).await {
        Ok(question) => question,
        Err(_) => Some(Err(Page::problem(408, "the request took too long to arrive"))),
    }
}

/// Takes a whole head off `received`; `None` when there is none yet.
fn parse(received: &mut Vec<u8>) -> Option<Result<Question, Page>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let len = match request.parse(received) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_BYTES_MAX => len,
        Ok(httparse::Status::Partial) if received.len() < HEAD_BYTES_MAX => return None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Page::problem(431, "the head is too long: 8 KiB and 64 fields are the most")));
        }
        Err(error) => return Some(Err(Page::problem(400, &format!("this is no HTTP request: {error}")))),
    };
    let question = question(&request);
    received.drain(..len);
    Some(question)
}

fn question(request: &httparse::Request<'_, '_>) -> Result<Question, Page> {
    let values = |name: &str| {
        let name = name.to_owned();
        let of_name = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(&name);
        request.headers.iter().filter(of_name).map(|field| field.value)
    };
    let has_body = values("content-length").any(|len| len != b"0") || values("transfer-encoding").next().is_some();
    if has_body {
        return Err(Page::problem(413, "a request to this port has no body"));
    }
    let method = request.method.unwrap_or_default();
    if !matches!(method, "GET" | "HEAD") {
        return Err(Page { allow: "GET, HEAD", ..Page::problem(405, "only GET and HEAD are answered here") });
    }
    let says = |word: &str| values("connection").any(|value| value.eq_ignore_ascii_case(word.as_bytes()));
    let token = values("authorization").find_map(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii().to_vec())
    });
    let path = request.path.unwrap_or_default();
    Ok(Question {
        path: path.split_once('?').map_or(path, |(path, _)| path).to_owned(),
        host: values("host").next().map(|host| String::from_utf8_lossy(host).into_owned()).unwrap_or_default(),
        token,
        is_forwarded: request.headers.iter().any(|field| {
            let name = field.name.to_ascii_lowercase();
            name.starts_with("x-forwarded-") || matches!(&*name, "forwarded" | "via" | "x-real-ip")
        }),
        is_head: method == "HEAD",
        goes_on: request.version == Some(1) && !says("close"),
    })
}

/// What browsers are told of every page: it is what its type says, and of no use to another site.
const BROWSERS: &str = "X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
                        Referrer-Policy: no-referrer\r\n";

/// Sends a page; false when the client does not take it.
async fn send(stream: &Stream, page: &Page, has_body: bool, goes_on: bool) -> bool {
    let field = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!("{name}: {value}\r\n"),
    };
    let mut bytes = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: {}\r\n{BROWSERS}{}{}{}\r\n",
        page.status_line(),
        page.media_type,
        page.body.len(),
        page.policy,
        field("Allow", page.allow),
        field("WWW-Authenticate", if page.status == 401 { "Bearer" } else { "" }),
        field("Connection", if goes_on { "" } else { "close" }),
    )
    .into_bytes();
    if has_body {
        bytes.extend_from_slice(page.body.as_bytes());
    }
    matches!(timeout(TRANSFER_LIMIT, stream.send(bytes)).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_at_every_cut() {
        let text = b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\nauthorization: bearer  abc\r\n\r\n";
        for cut in 0..text.len() {
            assert!(parse(&mut text[..cut].to_vec()).is_none(), "{cut}");
        }
        let mut received = [&text[..], b"HEAD / HTTP/1.0\r\n\r\n"].concat();
        let first = parse(&mut received).unwrap().unwrap();
        assert_eq!((first.path.as_str(), first.token.as_deref()), ("/metrics", Some(&b"abc"[..])));
        assert!(first.goes_on && !first.is_head);
        let second = parse(&mut received).unwrap().unwrap();
        assert!(second.is_head && !second.goes_on && received.is_empty());
        assert!(!first.is_forwarded);
        for field in ["X-Forwarded-For: ::1", "x-forwarded-host: h", "FORWARDED: for=h", "Via: 1.1 h", "X-Real-IP: h"] {
            let mut received = format!("GET / HTTP/1.1\r\n{field}\r\n\r\n").into_bytes();
            assert!(parse(&mut received).unwrap().unwrap().is_forwarded, "{field}");
        }
    }

    #[test]
    fn what_is_no_request_of_ours_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        let rows: [(&str, u16); 7] = [
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/3.0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 413),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
            (&long, 431),
            (&many, 431),
        ];
        for (text, status) in rows {
            let page = parse(&mut text.as_bytes().to_vec()).expect("an answer").expect_err("a refusal");
            assert_eq!(page.status, status, "{text}");
        }
    }
}
