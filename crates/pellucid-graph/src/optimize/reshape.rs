//! Reshapes with targets that exporters compute from shapes, although only the batch can vary.

use crate::model::Model;
use crate::observed::Observations;
use crate::tensor::Tensor;

/// Gives every Reshape whose result differs in at most one axis between two batch sizes a constant target, −1 for that axis, and
/// drops what computed it; gives how many. `observed` must have seen both batches.
pub fn fix_reshapes(model: &mut Model, observed: &Observations) -> usize {
    let mut targets: Vec<(usize, Vec<i64>)> = Vec::new();
    for (at, node) in model.graph.nodes.iter().enumerate().filter(|(_, n)| n.is("Reshape")) {
        let computed = node.input(1).is_some_and(|shape| !model.graph.initializers.contains_key(shape));
        let Some(seen) = observed.get(node.output()).filter(|_| computed) else { continue };
        let Some(two) = seen.shape_at_two.as_ref().filter(|two| two.len() == seen.shape.len()) else { continue };
        let axis = |(one, two): (&usize, &usize)| if one == two { *one as i64 } else { -1 };
        let target: Vec<i64> = seen.shape.iter().zip(two).map(axis).collect();
        // In a target 0 does not mean none.
        if target.iter().filter(|d| **d == -1).count() <= 1 && !target.contains(&0) {
            targets.push((at, target));
        }
    }
    let mut names = model.graph.names();
    for (at, target) in &targets {
        let name = names.fresh(&format!("{}.target", model.graph.nodes[*at].output()));
        let tensor = Tensor::i64(&name, &[target.len()], target);
        model.graph.initializers.insert(name.clone(), tensor);
        model.graph.nodes[*at].proto.input[1] = name;
    }
    if !targets.is_empty() {
        model.graph.prune();
    }
    targets.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Node, Value};
    use crate::observed::Observed;
    use crate::tensor::ElementType;

    fn fixed(one: &[usize], two: &[usize]) -> (usize, Vec<&'static str>, Option<Vec<i64>>) {
        let nodes = vec![Node::new("Shape", &["x"], &["shape"]), Node::new("Reshape", &["x", "shape"], &["y"])];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(4)]);
        let mut model = Model::new("m.onnx", Graph::new(vec![input], nodes, Vec::new(), &["y"]).unwrap(), 18);
        let seen = Observed { element: ElementType::F32, shape: one.to_vec(), shape_at_two: Some(two.to_vec()) };
        let count = fix_reshapes(&mut model, &[("y".to_owned(), seen)].into());
        let left = model.graph.nodes.iter().map(|n| if n.is("Shape") { "Shape" } else { "Reshape" }).collect();
        let target = model.graph.initializers.values().next().map(|t| t.to_i64().unwrap());
        (count, left, target)
    }

    #[test]
    fn one_axis_that_follows_the_batch_is_left_free() {
        assert_eq!(fixed(&[3, 8, 4], &[6, 8, 4]), (1, vec!["Reshape"], Some(vec![-1, 8, 4])));
        assert_eq!(fixed(&[8, 4], &[8, 4]), (1, vec!["Reshape"], Some(vec![8, 4])));
    }

    #[test]
    fn a_target_that_two_axes_or_an_empty_one_leave_open_stays_computed() {
        assert_eq!(fixed(&[1, 8, 1], &[2, 8, 2]).0, 0);
        assert_eq!(fixed(&[1, 0], &[2, 0]).0, 0);
    }
}
