//! What goes wrong on this side of the boundary, in the visitor's words: what, why, what to do next.
//! No panic crosses the boundary; everything a caller or a file can cause becomes one of these.

use wasm_bindgen::JsValue;

/// An error with its explanation. In JavaScript an `Error` whose message is `what`, with the
/// properties `why` and `next` (one step per line).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct VmError {
    /// What happened: one sentence.
    pub what: String,
    /// The cause: one sentence.
    pub why: String,
    /// What to do about it, one step per line.
    pub next: String,
}

impl VmError {
    /// An error from its three parts.
    pub fn new(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), next: next.into() }
    }

    /// Our lower-level errors are one line: the cause, then after a semicolon the advice, if there is one.
    pub fn from_line(what: &str, error: &dyn core::fmt::Display) -> Self {
        let line = error.to_string();
        match line.rsplit_once("; ") {
            Some((why, next)) => Self::new(what, sentence(why), sentence(next)),
            None => Self::new(what, sentence(&line), "Check the machine's files and settings, then boot again."),
        }
    }
}

/// `text` with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let mut s: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    s.push_str(chars.as_str());
    if !s.is_empty() && !s.ends_with(['.', '!', '?']) {
        s.push('.');
    }
    s
}

impl From<VmError> for JsValue {
    fn from(error: VmError) -> Self {
        let js = js_sys::Error::new(&error.what);
        for (key, value) in [("why", &error.why), ("next", &error.next)] {
            // Setting a property of a fresh, ordinary object cannot fail.
            let _ = js_sys::Reflect::set(&js, &key.into(), &value.into());
        }
        js.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_splits_into_cause_and_advice() {
        let e = VmError::from_line("The machine did not start.", &"the kernel is cut off: 1 of 2; load it again");
        assert_eq!(e.why, "The kernel is cut off: 1 of 2.");
        assert_eq!(e.next, "Load it again.");
    }

    #[test]
    fn a_line_without_advice_gets_some() {
        let e = VmError::from_line("No.", &"because");
        assert_eq!(e.why, "Because.");
        assert!(!e.next.is_empty());
    }
}
