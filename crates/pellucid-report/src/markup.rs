//! A writer of HTML that cannot be talked into markup: tags and attribute names are constants of this crate, and
//! everything else is escaped on its way in. Elements are closed by construction.

use std::fmt::Write;

/// HTML under construction.
#[derive(Debug, Default)]
pub(crate) struct Html {
    out: String,
}

/// One attribute; an empty value writes a boolean attribute (`hidden`).
pub(crate) type Attribute<'a> = (&'static str, &'a str);

impl Html {
    /// Starts empty.
    pub(crate) fn new() -> Self {
        Html::default()
    }

    /// An element whose content `inside` writes.
    pub(crate) fn within(&mut self, tag: &'static str, attributes: &[Attribute], inside: impl FnOnce(&mut Html)) {
        self.start(tag, attributes);
        inside(self);
        let _ = write!(self.out, "</{tag}>");
    }

    /// An element that holds only text.
    pub(crate) fn element(&mut self, tag: &'static str, attributes: &[Attribute], text: &str) {
        self.within(tag, attributes, |h| h.text(text));
    }

    /// An element without content or end tag: `<meta>`, `<input>`, and shapes of SVG.
    pub(crate) fn void(&mut self, tag: &'static str, attributes: &[Attribute]) {
        self.start(tag, attributes);
        if matches!(tag, "rect" | "line" | "circle" | "path" | "use" | "image") {
            self.out.truncate(self.out.len() - 1);
            self.out.push_str("/>");
        }
    }

    /// Escaped text.
    pub(crate) fn text(&mut self, text: &str) {
        escape_into(&mut self.out, text);
    }

    /// A name that a user chose, isolated so that its writing direction does not leak into ours.
    pub(crate) fn name(&mut self, name: &str) {
        self.within("bdi", &[], |h| h.text(name));
    }

    /// Everything another writer made.
    pub(crate) fn append(&mut self, other: &Html) {
        self.out.push_str(&other.out);
    }

    /// The markup so far.
    pub(crate) fn into_string(self) -> String {
        self.out
    }

    fn start(&mut self, tag: &'static str, attributes: &[Attribute]) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            if !value.is_empty() || *name == "alt" || *name == "value" {
                self.out.push_str("=\"");
                escape_into(&mut self.out, value);
                self.out.push('"');
            }
        }
        self.out.push('>');
    }
}

/// Escapes for text and quoted attributes alike. Control characters, which HTML does not allow, become U+FFFD, and so do
/// those that embed, override or isolate a writing direction: one that a name leaves open would reorder what follows it.
fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{FFFD}'),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
}

/// JSON that may stand inside a `<script>` element: no character of it can end the element or start a comment, and it
/// still parses to the same values.
pub(crate) fn json_for_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 50);
    for character in json.chars() {
        match character {
            // Outside strings JSON has none of these, so the escape is always inside one.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_reorder_what_follows_it() {
        let mut html = Html::new();
        html.within("p", &[("title", "a\u{202e}b")], |h| h.name("x\u{2066}\u{202e}gnp.exe \u{200f}قطة"));
        assert_eq!(html.into_string(), "<p title=\"a\u{FFFD}b\"><bdi>x\u{FFFD}\u{FFFD}gnp.exe \u{200f}قطة</bdi></p>");
    }

    #[test]
    fn text_and_attributes_cannot_leave_their_place() {
        let mut html = Html::new();
        html.within("p", &[("title", "a\"b'><script>")], |h| h.text("</p><script>alert('1')</script>&amp;\0"));
        assert_eq!(
            html.into_string(),
            "<p title=\"a&quot;b&#39;&gt;&lt;script&gt;\">&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;\u{FFFD}</p>"
        );
    }

    #[test]
    fn embedded_json_holds_no_markup_and_means_the_same() {
        let hostile = "</script><!--<script>&\u{2028}";
        let json = serde_json::to_string(hostile).expect("a string is JSON");
        let embedded = json_for_script(&json);
        assert!(!embedded.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&embedded).expect("still JSON"), hostile);
    }
}
