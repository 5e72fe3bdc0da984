//! Which parts of a picture in memory speak for a class: `explain_picture MODEL.onnx CLASS`.

use pellucid::attribution::AttributionSettings;
use pellucid::data::Picture;
use pellucid::{Classifier, OpenOptions, Question};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, class] = arguments.as_slice() else { return Err("give MODEL.onnx CLASS".into()) };
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let picture = Picture::from_fn(320, 240, |x, y| [(x % 256) as u8, (y % 256) as u8, 127]);
    let question = Question::Class(class.clone());
    let found = pellucid::attribute(&classifier, picture, &question, &[], &AttributionSettings::default())?;
    for one in &found.maps {
        println!("{}: {:?}, {:?}", one.map.title, one.map.values.dim(), one.map.flag);
    }
    Ok(())
}
