//! `/openapi.json`, written from the table of routes, and `/docs`, which shows it.
//!
//! In: the table. Out: OpenAPI 3.1, and a page that needs nothing from elsewhere. What must stay true: a route cannot
//! be served without being described.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use super::{Call, JSON, ROUTES, Session, answer};
use crate::protocol::Args;
use crate::protocol::http::Request;
use crate::protocol::resp::Reply;

/// What is told of a route beside its name and summary.
pub(super) struct Doc {
    replies: &'static [(u16, &'static str)],
    places: &'static [Place],
    body: Option<(&'static str, &'static str)>,
    gives: &'static str,
}

impl Doc {
    pub(super) const fn replies(replies: &'static [(u16, &'static str)]) -> Self {
        Doc { replies, places: &[], body: None, gives: "application/json" }
    }

    pub(super) const fn with(self, places: &'static [Place]) -> Self {
        Doc { places, ..self }
    }

    /// The type and the schema of its body.
    pub(super) const fn takes(self, kind: &'static str, schema: &'static str) -> Self {
        Doc { body: Some((kind, schema)), ..self }
    }

    pub(super) const fn gives(self, gives: &'static str) -> Self {
        Doc { gives, ..self }
    }
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Key,
    Ttl,
    Nx,
    Xx,
    By,
    Cursor,
    Match,
    Count,
    IfMatch,
    IfNoneMatch,
    CacheControl,
    /// Of who asks for a value.
    Lease,
    /// Of who gives one.
    Token,
}

impl Place {
    /// Where it is, its name, its schema, and what it means.
    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        const TEXT: &str = r#"{"type":"string"}"#;
        const FLAG: &str = r#"{"type":"boolean"}"#;
        match self {
            Place::Key => ("path", "key", r#"{"type":"string","minLength":1}"#, "The key, percent-encoded"),
            Place::Ttl => (
                "query",
                "ttl",
                r#"{"type":"integer","minimum":1,"maximum":3162240000}"#,
                "Seconds until it expires; never unless given",
            ),
            Place::Nx => ("query", "nx", FLAG, "Only when there is no such key"),
            Place::Xx => ("query", "xx", FLAG, "Only when there is such a key"),
            Place::By => ("query", "by", r#"{"type":"integer","format":"int64","default":1}"#, "What is added"),
            Place::Cursor => ("query", "cursor", r#"{"type":"string","pattern":"^[0-9]{1,19}$"}"#, "Where to go on"),
            Place::Match => ("query", "match", TEXT, "A pattern, as of SCAN"),
            Place::Count => (
                "query",
                "count",
                r#"{"type":"integer","minimum":1,"maximum":10000}"#,
                "About how many keys to look at",
            ),
            Place::IfMatch => ("header", "If-Match", TEXT, "Only when the entity tag is one of these"),
            Place::IfNoneMatch => ("header", "If-None-Match", TEXT, "Only when it is none of these"),
            Place::CacheControl => (
                "header",
                "Cache-Control",
                TEXT,
                "max-age and stale-while-revalidate: how long the value is fresh, and how long stale",
            ),
            Place::Lease => (
                "header",
                "Corering-Lease",
                r#"{"type":"string","pattern":"^((take|for=[1-9][0-9]{0,6}|wait=[0-9]{1,5})(, ?wait=[0-9]{1,5})?)?$"}"#,
                "take, for=milliseconds, wait=milliseconds: be told who computes a missing or stale value",
            ),
            Place::Token => (
                "header",
                "Corering-Lease",
                r#"{"type":"string","pattern":"^((token=)?[0-9]{1,19})?$"}"#,
                "The token of whoever computes the value",
            ),
        }
    }
}

const BYTES: &str = r#"{"oneOf":[{"type":"string"},{"type":"number"},{"type":"object","properties":{"base64":
{"type":"string","contentEncoding":"base64","pattern":"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}},
"required":["base64"],"additionalProperties":false}]}"#;
pub(super) const MGET: &str = r##"{"type":"object","properties":{"keys":{"type":"array","items":
{"$ref":"#/components/schemas/Bytes"}}},"required":["keys"],"additionalProperties":false}"##;
pub(super) const MSET: &str = r##"{"type":"object","properties":{"items":{"type":"array","items":{"type":"object",
"properties":{"key":{"$ref":"#/components/schemas/Bytes"},"value":{"$ref":"#/components/schemas/Bytes"},
"ttl":{"type":"integer","minimum":1,"maximum":3162240000},"nx":{"type":"boolean"},"xx":{"type":"boolean"}},
"required":["key","value"],"additionalProperties":false}}},"required":["items"],"additionalProperties":false}"##;
pub(super) const RUN: &str = r##"{"type":"array","items":{"type":"array","minItems":1,"items":
{"$ref":"#/components/schemas/Bytes"}}}"##;

/// What is told of every body. Were it run as it arrives, a request would hold its connection, its place among the
/// replies and its room for as long as its client likes; pipelined requests do what that would do, within all limits.
const WHOLE: &str = "Has arrived whole before anything is done with it; requests that are pipelined run one by one";

/// What any route may answer; but for the first, the open ones do not.
const COMMON: &[(u16, &str)] = &[
    (400, "Malformed"),
    (401, "The password is wrong, or was not given"),
    (403, "Pages of this origin are not let in"),
    (408, "The request took too long to arrive"),
    (413, "The body is too large"),
    (414, "The target is too long"),
    (421, "Another node has the key"),
    (431, "The head is too long"),
    (501, "The transfer encoding is not known"),
    (503, "Too many clients"),
];

fn schema(text: &str) -> Json {
    serde_json::from_str(text).expect("it stands in the source")
}

fn operation(name: &str, summary: &str, doc: &Doc) -> Json {
    let parameter = |place: &Place| {
        let (location, name, text, description) = place.row();
        json!({ "in": location, "name": name, "required": *place == Place::Key, "description": description,
            "allowEmptyValue": matches!(place, Place::Nx | Place::Xx), "schema": schema(text) })
    };
    let mut replies = Map::new();
    let is_open = doc.replies.len() == 1 && doc.places.is_empty() && name.split('/').count() == 2;
    let common = if is_open { &COMMON[..1] } else { COMMON };
    let is_value = name.ends_with(" /v1/keys/{key}");
    for (status, description) in common.iter().chain(doc.replies) {
        let kind = if *status >= 400 { "application/problem+json" } else { doc.gives };
        let schema = if *status >= 400 { json!({ "$ref": "#/components/schemas/Problem" }) } else { json!({}) };
        let content = match status {
            201 | 204 | 304 => json!({}),
            200 if is_value => json!({ "*/*": {} }),
            _ => json!({ kind: { "schema": schema } }),
        };
        replies.insert(status.to_string(), json!({ "description": description, "content": content }));
    }
    let problem = json!({ "description": "Any other refusal",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    replies.insert("default".to_owned(), problem);
    let parameters: Json = doc.places.iter().map(parameter).collect();
    let mut operation = json!({ "summary": summary, "operationId": name, "parameters": parameters,
        "responses": replies });
    if let Some((kind, text)) = doc.body {
        operation["requestBody"] = json!({ "required": kind == "application/json", "description": WHOLE,
            "content": { kind: { "schema": schema(text) } } });
    }
    operation
}

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let mut paths = Map::new();
    for (name, summary, doc) in ROUTES {
        let (method, path) = name.split_once(' ').unwrap_or(("GET", name));
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method.to_ascii_lowercase()] = operation(name, summary, doc);
    }
    let problem = json!({ "type": "object", "required": ["type", "title", "status", "detail"], "properties": {
        "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" },
        "detail": { "type": "string" } } });
    let description = json!({
        "openapi": "3.1.0",
        "info": { "title": "Corering", "version": env!("CARGO_PKG_VERSION"), "summary": "A cache over HTTP" },
        "paths": paths,
        "components": {
            "schemas": { "Problem": problem, "Bytes": schema(BYTES) },
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" } },
        },
        "security": [{}, { "bearer": [] }, { "basic": [] }],
    });
    description.to_string()
});

pub(super) fn description(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    answer(call, Request(args), 200, (JSON, DESCRIPTION.as_bytes()), reply.output);
}

const PAGE: &[u8] = include_bytes!("docs.html");

pub(super) fn page(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    answer(call, Request(args), 200, (b"text/html; charset=utf-8", PAGE), reply.output);
}
