//! JSON of arguments and replies.
//!
//! In: bodies, and replies as [`Value`]s. Out: arguments, and JSON. What must stay true: bytes that are no UTF-8 go in
//! and out as `{"base64": "…"}`, so that no value is changed on the way; a body's memory is bounded before it is read.

use serde_json::{Map, Value as Json, json};

use super::{Call, refuse};
use crate::protocol::http::Request;
use crate::protocol::http::request::CONTENT_TYPE;
use crate::protocol::resp::Value;

use crate::protocol::{Output, base64};

/// Longest JSON body: as a tree it takes several times as much.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why a request is refused: a status, and what is wrong.
#[derive(Debug)]
pub(super) struct Unfit {
    status: u16,
    pub(super) detail: String,
}

impl Unfit {
    pub(super) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    pub(super) fn write(&self, call: &Call<'_>, request: Request<'_>, output: &mut Output) {
        refuse(call, request, self.status, &self.detail, output);
    }
}

/// Whether a request has no parameter but the `known` ones: one that is misspelt would else be left out.
pub(super) fn check_parameters(request: Request<'_>, known: &[&str]) -> Result<(), Unfit> {
    match request.unknown_parameter(known) {
        None => Ok(()),
        Some(name) => {
            let known = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
            Err(Unfit::new(400, format!("there is no parameter \"{}\" here, but {known}", name.escape_ascii())))
        }
    }
}

/// Whether a request says that its body is JSON, or nothing.
pub(super) fn check_type(request: Request<'_>) -> Result<(), Unfit> {
    let kind = request.field(CONTENT_TYPE).split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.is_empty() && !kind.eq_ignore_ascii_case(b"application/json") {
        return Err(Unfit::new(415, "the body is to be application/json"));
    }
    Ok(())
}

/// Whether a body is no longer than may be taken at once.
pub(super) fn check_len(request: Request<'_>) -> Result<(), Unfit> {
    if request.body().len() > BODY_BYTES_MAX {
        return Err(Unfit::new(413, "a JSON body is 16 MiB at most: PUT large values"));
    }
    Ok(())
}

/// A request's body.
pub(super) fn body(request: Request<'_>) -> Result<Json, Unfit> {
    check_type(request)?;
    check_len(request)?;
    serde_json::from_slice(request.body()).map_err(|error| Unfit::new(400, format!("the body is no JSON: {error}")))
}

/// The array that is an object's only field.
pub(super) fn only_field<'a>(body: &'a Json, name: &str) -> Option<&'a Vec<Json>> {
    body.as_object().filter(|fields| fields.len() == 1)?.get(name)?.as_array()
}

/// The bytes of an argument, which is a string, a number, or `{"base64": "…"}`.
pub(super) fn bytes(json: &Json) -> Result<Vec<u8>, Unfit> {
    match json {
        Json::String(text) => Ok(text.clone().into_bytes()),
        Json::Number(number) => Ok(number.to_string().into_bytes()),
        Json::Object(fields) if fields.len() == 1 => {
            let text = fields.get("base64").and_then(Json::as_str);
            let mut bytes = Vec::new();
            let decoded = text
                .and_then(|text| if text.is_empty() { Some(()) } else { base64::decode(text.as_bytes(), &mut bytes) });
            decoded.map(|()| bytes).ok_or_else(unreadable)
        }
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Unfit {
    Unfit::new(400, r#"keys, values and arguments are strings, numbers, or {"base64": "…"}"#)
}

/// Bytes as JSON.
pub(super) fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::from(text),
        Err(_) => {
            let mut encoded = String::new();
            base64::encode(bytes, |letter| encoded.push(letter as char));
            json!({ "base64": encoded })
        }
    }
}

/// A reply's value as JSON; errors inside of it are `{"error": "…"}`.
pub(super) fn value(value: &Value) -> Json {
    match value {
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim(_, bytes) => text(bytes),
        Value::Error(text) => json!({ "error": text_of_error(text) }),
        Value::Integer(number) => Json::from(*number),
        Value::Null => Json::Null,
        Value::Array(values) | Value::Set(values) | Value::Push(values) => values.iter().map(self::value).collect(),
        Value::Map(pairs) => map(pairs),
        Value::Double(number) => {
            serde_json::Number::from_f64(*number).map_or_else(|| Json::from(number.to_string()), Json::Number)
        }
        Value::Boolean(is_true) => Json::from(*is_true),
        Value::BigNumber(digits) => text(digits),
        Value::Attributed(_, value) => self::value(value),
    }
}

/// An object where all keys are text, pairs otherwise.
fn map(pairs: &[(Value, Value)]) -> Json {
    let name = |key: &Value| match value(key) {
        Json::String(name) => Some(name),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let fields: Option<Map<String, Json>> =
        pairs.iter().map(|(key, of)| name(key).map(|name| (name, value(of)))).collect();
    match fields {
        Some(fields) => Json::Object(fields),
        None => pairs.iter().map(|(key, of)| json!([value(key), value(of)])).collect(),
    }
}

pub(super) fn text_of_error(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The fields of `INFO`, by section; numbers as numbers.
pub(super) fn sections(info: &[u8]) -> Json {
    let mut sections = Map::new();
    let mut section = String::new();
    for line in String::from_utf8_lossy(info).lines() {
        if let Some(name) = line.strip_prefix("# ") {
            section = name.to_ascii_lowercase();
        } else if let Some((name, text)) = line.split_once(':') {
            let number = serde_json::from_str(text).ok().filter(Json::is_number);
            let fields = sections.entry(section.clone()).or_insert_with(|| json!({}));
            if let Some(fields) = fields.as_object_mut() {
                fields.insert(name.to_owned(), number.unwrap_or_else(|| Json::from(text)));
            }
        }
    }
    Json::Object(sections)
}
