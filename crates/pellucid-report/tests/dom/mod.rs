//! A report as a browser's parser sees it.

use html5ever::tendril::TendrilSink;
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// One element of the page.
pub struct Element {
    /// Tag name, lower case.
    pub tag: String,
    /// Attributes, in order.
    pub attributes: Vec<(String, String)>,
    /// All text inside it.
    pub text: String,
}

impl Element {
    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has this class.
    pub fn is(&self, class: &str) -> bool {
        self.get("class").is_some_and(|classes| classes.split(' ').any(|each| each == class))
    }
}

/// Every element of the page, in document order.
pub fn elements(html: &str) -> Vec<Element> {
    let dom: RcDom = html5ever::parse_document(RcDom::default(), Default::default()).one(html);
    assert!(dom.errors.borrow().is_empty(), "a parser had to repair the page: {:?}", dom.errors.borrow());
    let mut found = Vec::new();
    walk(&dom.document, &mut found);
    found
}

fn walk(node: &Handle, found: &mut Vec<Element>) {
    if let NodeData::Element { name, attrs, .. } = &node.data {
        let attributes = attrs.borrow();
        let attributes = attributes.iter().map(|a| (a.name.local.to_string(), a.value.to_string())).collect();
        found.push(Element { tag: name.local.to_string(), attributes, text: text(node) });
    }
    node.children.borrow().iter().for_each(|child| walk(child, found));
}

fn text(node: &Handle) -> String {
    match &node.data {
        NodeData::Text { contents } => contents.borrow().to_string(),
        _ => node.children.borrow().iter().map(text).collect(),
    }
}

/// The elements with a tag.
pub fn tagged<'a>(elements: &'a [Element], tag: &str) -> Vec<&'a Element> {
    elements.iter().filter(|element| element.tag == tag).collect()
}
