//! Which parts of one picture speak for a class or a neuron.
//!
//! A method is one file with a [`Method`] and one row in [`METHODS`]; commands, pages and bindings loop over that list and
//! name none. Every map comes with what tells a good one from a pretty one (`checks`); one that shows nothing is flagged
//! instead of drawn. Methods ask a [`Network`], whoever runs it.

mod checks;
mod grad_cam;
mod integrated_gradients;
mod smooth_grad;

pub use crate::network::Subject;

use crate::network::{self, Gradient, Network, NetworkError, Offer, Score, Taps};
use ndarray::{Array2, ArrayD, ArrayViewD, Axis};
use pellucid_guard::Setting;
use pellucid_saliency::SaliencyMap;
use pellucid_saliency::evaluate::ConfidenceGames;
use serde::{Deserialize, Serialize};

/// Pictures of one run of a gradient.
const BATCH: usize = 8;

/// The methods there are, in the order that they are shown in.
pub static METHODS: &[&dyn Method] =
    &[&grad_cam::GradCam, &integrated_gradients::IntegratedGradients, &smooth_grad::SmoothGrad];

/// A way to make a map.
pub trait Method: std::fmt::Debug + Sync {
    /// A stable key: what the command takes, and the map's id.
    fn id(&self) -> &'static str;

    /// What a person reads above the map.
    fn title(&self) -> &'static str;

    /// One line of help.
    fn about(&self) -> &'static str;

    /// What the network must offer.
    fn needs(&self) -> &'static [Offer];

    /// The map: one value a pixel of the model's input; what is larger speaks more for the score.
    ///
    /// # Errors
    /// What the network says.
    fn map(&self, asking: &Asking<'_>) -> Result<SaliencyMap, AttributionError>;
}

/// The method called `id`.
pub fn method(id: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|m| m.id() == id)
}

/// What `method` needs and `network` does not offer.
pub fn missing(method: &dyn Method, network: &dyn Network) -> Option<Offer> {
    method.needs().iter().copied().find(|what| !network.offers(*what))
}

/// How maps are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttributionSettings {
    /// Points on a way between two pictures, for methods that go one.
    pub steps: usize,
    /// Noisy copies, for methods that take some.
    pub copies: usize,
    /// Standard deviation of their noise, as a share of the picture's range.
    pub noise: f32,
    /// Seed of noise, random order and shuffled weights.
    pub seed: u64,
    /// Whether maps are checked: deletion and insertion, and the network with shuffled weights. Off, a map costs what its
    /// method asks for and no more.
    pub checked: bool,
}

impl Default for AttributionSettings {
    fn default() -> Self {
        Self { steps: 32, copies: 16, noise: 0.15, seed: 0, checked: true }
    }
}

pellucid_guard::builders!(AttributionSettings {
    with_steps: steps: usize,
    with_copies: copies: usize,
    with_noise: noise: f32,
    with_seed: seed: u64,
    with_checked: checked: bool,
});

/// One map, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The map, its id that of its method, with the method's figures and, where it was checked and the network has shuffled
    /// weights to offer, `randomization_test`: the rank correlation with the shuffled network's map, good near 0.
    #[serde(flatten)]
    pub map: SaliencyMap,
    /// The subject's score as the strongest pixels turn gray, or appear on gray, first; a share of the whole picture's.
    /// `None` where it was not checked.
    #[serde(flatten)]
    pub games: Option<ConfidenceGames>,
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttributionError {
    /// A class or neuron that does not exist.
    #[error("there is no {what} {index}; there are {count}")]
    Subject {
        /// "class" or "neuron".
        what: &'static str,
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A method that does not exist.
    #[error("there is no method '{name}'; there are: {known}")]
    Method {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A neuron of a network without a decision layer.
    #[error("{network} has no neurons in front of a decision layer: {reason}; ask for a class")]
    NoNeurons {
        /// The network.
        network: String,
        /// Why there is no decision layer.
        reason: String,
    },
    /// A method needs what the network does not offer.
    #[error("{network} offers no {what}, which {method} needs{}; there are: {others}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Needs {
        /// The network.
        network: String,
        /// What is missing.
        what: Offer,
        /// The method.
        method: &'static str,
        /// Why it does not, where that is known.
        why: Option<String>,
        /// Methods that go without.
        others: String,
    },
    /// The settings make no sense.
    #[error("{0} must be 1 or more")]
    Nothing(Setting),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// One picture, one score, and a network to ask.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The network.
    pub network: &'a dyn Network,
    /// The picture as the model reads it, batch 1.
    pub input: &'a ArrayD<f32>,
    /// A gray picture in the same way.
    pub gray: &'a ArrayD<f32>,
    /// Whether channels come before rows and columns.
    pub channels_first: bool,
    /// What is explained.
    pub score: &'a Score,
    /// How maps are made.
    pub settings: &'a AttributionSettings,
}

impl Asking<'_> {
    /// Where the colours are in an input.
    pub fn channel_axis(&self) -> Axis {
        Axis(if self.channels_first { 1 } else { 3 })
    }

    /// Height and width of the input.
    pub fn size(&self) -> (usize, usize) {
        let shape = self.input.shape();
        if self.channels_first { (shape[2], shape[3]) } else { (shape[1], shape[2]) }
    }

    /// Values of the input's shape, summed over the colours.
    pub fn over_colours(&self, values: &ArrayD<f32>) -> Array2<f32> {
        let summed = values.sum_axis(self.channel_axis());
        summed.index_axis(Axis(0), 0).to_owned().into_dimensionality().unwrap_or_default()
    }

    /// The score of each of `rows` (batch 1 each), without a gradient.
    ///
    /// # Errors
    /// What the network says.
    pub fn scores(&self, rows: &[ArrayD<f32>]) -> Result<Vec<f32>, AttributionError> {
        let mut scores = Vec::with_capacity(rows.len());
        for rows in rows.chunks(self.network.batch().max(1)) {
            scores.extend(self.score.read(&network::forward(self.network, &joined(rows), Taps::Vectors)?));
        }
        Ok(scores)
    }

    /// The score's gradients at `input`.
    ///
    /// # Errors
    /// What the network says.
    pub fn gradient(&self, input: &ArrayD<f32>) -> Result<Gradient, AttributionError> {
        Ok(network::gradient(self.network, input, self.score)?)
    }

    /// The score's gradient by the input at each of `rows`.
    ///
    /// # Errors
    /// What the network says.
    pub fn gradients(&self, rows: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>, AttributionError> {
        let mut gradients = Vec::with_capacity(rows.len());
        for rows in rows.chunks(BATCH) {
            let gradient = self.gradient(&joined(rows))?.input;
            gradients.extend((0..rows.len()).map(|i| network::row(&gradient, i)));
        }
        Ok(gradients)
    }
}

fn joined(rows: &[ArrayD<f32>]) -> ArrayD<f32> {
    let views: Vec<ArrayViewD<'_, f32>> = rows.iter().map(|row| row.view()).collect();
    ndarray::concatenate(Axis(0), &views).unwrap_or_default()
}

/// Explains `subject` on `input` (one sample, preprocessed) with each of `methods`; `gray` is the input of a gray picture,
/// and `channels_first` says where its channels are.
///
/// # Errors
/// [`AttributionError`]: a subject that does not exist, a method that needs what the network does not offer, settings that
/// make no sense, and what the network says.
pub fn attribute(
    network: &dyn Network,
    [input, gray]: [&ArrayD<f32>; 2],
    channels_first: bool,
    subject: Subject,
    methods: &[&'static dyn Method],
    settings: &AttributionSettings,
) -> Result<Vec<Attribution>, AttributionError> {
    check(network, subject, methods, settings)?;
    let score = Score::of(subject, network.layer().classes(), network.layer().features());
    let asking = Asking { network, input, gray, channels_first, score: &score, settings };
    let wants_random = settings.checked && network.offers(Offer::Randomized);
    let random = wants_random.then(|| network.randomized(settings.seed)).transpose()?;
    let one = |method: &&'static dyn Method| {
        let mut map = method.map(&asking)?;
        let shuffled = match &random {
            Some(random) => {
                let other = method.map(&Asking { network: random.as_ref(), ..asking })?;
                Some(checks::rank_correlation(&map.values, &other.values))
            }
            None => None,
        };
        map.flag = checks::flag(&map.values, shuffled);
        let games = settings.checked.then(|| checks::games(&asking, &map.values, settings.seed)).transpose()?;
        if let Some(same) = shuffled {
            let title = "rank correlation with the map of shuffled weights; good near 0";
            map = map.with_figure(pellucid_saliency::Figure::new("randomization_test", title, same));
        }
        Ok(Attribution { map, games })
    };
    methods.iter().map(one).collect()
}

fn check(
    network: &dyn Network,
    subject: Subject,
    methods: &[&'static dyn Method],
    settings: &AttributionSettings,
) -> Result<(), AttributionError> {
    let layer = network.layer();
    let (what, index, count) = match subject {
        Subject::Class(c) | Subject::Against(c) => ("class", c, layer.classes()),
        Subject::Neuron(j) => ("neuron", j, layer.features()),
    };
    if let (Subject::Neuron(_), Some(reason)) = (subject, network.no_decision_layer()) {
        return Err(AttributionError::NoNeurons { network: network.name(), reason: reason.to_owned() });
    }
    if index >= count {
        return Err(AttributionError::Subject { what, index, count });
    }
    if let Some((method, what)) = methods.iter().find_map(|m| Some((m, missing(*m, network)?))) {
        let without: Vec<&str> = METHODS.iter().filter(|m| missing(**m, network).is_none()).map(|m| m.id()).collect();
        let others = if without.is_empty() { "none".to_owned() } else { without.join(", ") };
        let why = network.no_feature_map().filter(|_| what == Offer::FeatureMap).map(str::to_owned);
        return Err(AttributionError::Needs { network: network.name(), what, method: method.id(), why, others });
    }
    match (settings.steps, settings.copies) {
        (0, _) => Err(AttributionError::Nothing(Setting::Points)),
        (_, 0) => Err(AttributionError::Nothing(Setting::Copies)),
        _ => Ok(()),
    }
}
