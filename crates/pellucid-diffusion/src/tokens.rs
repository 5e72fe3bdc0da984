//! Prompts to tokens, and tokens back to the words a user typed.

use crate::entries::{Entries, read_json_if_there};
use crate::error::DiffusionError;
use pellucid_guard::{Budget, Limit, bounded, parse, printable};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, TruncationParams};

/// A word of the prompt, and the tokens that spell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// As typed; a word that occurs again carries its number: `a (2)`, and one that the vocabulary lacks says so:
    /// `zebra (unknown)`.
    pub text: String,
    /// Positions of its tokens in the context.
    pub tokens: Vec<usize>,
    /// Where it stands in the prompt: bytes from and up to.
    pub span: (usize, usize),
}

/// A word that the vocabulary does not hold: whatever it is, the text encoder is told the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// As typed.
    pub word: String,
    /// Words of the vocabulary that are spelt most like it, nearest first; none where none is near.
    pub nearest: Vec<String>,
}

/// A prompt as the text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Token numbers, padded to the context.
    pub ids: Vec<i64>,
    /// Words, in order; special tokens belong to none.
    pub words: Vec<Word>,
    /// What the context cut off, if anything.
    pub cut: Option<String>,
    /// Words that the vocabulary does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Unknown>,
}

/// A pipeline's tokenizer.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Its file, for messages.
    pub file: PathBuf,
    /// Number of tokens that the text encoder takes.
    pub context: usize,
    pad: u32,
    /// The token of everything that the vocabulary lacks.
    unknown: Option<u32>,
}

/// Likeness in spelling, from 0 to 1, from which on a word of the vocabulary is named as near, and how many are.
const NEAR: (f64, usize) = (0.5, 3);
/// A vocabulary with at most so many words is named whole.
const SMALL: usize = 60;

const CLIP_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

impl TextTokenizer {
    /// Reads the tokenizer in `folder`: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`. `context` is used where
    /// no config says a length.
    pub fn open(folder: &Path, context: usize, budget: &Budget) -> Result<Self, DiffusionError> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.json"));
        let config_file = folder.join("tokenizer_config.json");
        let config = read_json_if_there(&config_file, budget)?;
        let entries =
            Entries::of(&config).map_err(|reason| DiffusionError::Config { file: config_file.clone(), reason })?;
        let (tokenizer, file) = if json.exists() {
            (whole(&json, budget), json)
        } else if vocabulary.exists() {
            (clip(folder, budget), vocabulary)
        } else {
            let expected = "tokenizer/tokenizer.json, or tokenizer/vocab.json and merges.txt".to_owned();
            let folder = folder.parent().unwrap_or(folder).to_path_buf();
            return Err(DiffusionError::Missing { folder, component: "tokenizer", expected });
        };
        let failed = |reason: String| DiffusionError::Config { file: file.clone(), reason };
        let mut tokenizer = tokenizer.map_err(failed)?;
        let size = tokenizer.get_vocab_size(true) as u64;
        budget.admit(Limit::Tokens, Some(size)).map_err(|e| failed(format!("its vocabulary is too large: {e}")))?;
        // Tokenizers without a limit write an absurd number.
        let lengths = |v: &Value| v.as_f64().filter(|n| *n >= 1.0);
        let declared = entries.read("model_max_length", "a number of at least 1", lengths);
        let declared = declared.map_err(|reason| DiffusionError::Config { file: config_file.clone(), reason })?;
        let declared = declared.filter(|n| *n < 100_000.0).map_or(context, |n| n as usize);
        let context = declared.min(context.max(1));
        let pad =
            pad_token(&tokenizer, &entries).ok_or_else(|| failed("it names no padding or end token".to_owned()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| failed(e.to_string()))?;
        let unknown = unknown_token(&tokenizer);
        Ok(Self { tokenizer, file, context, pad, unknown })
    }

    /// Tokens of `prompt`. A prompt that is longer than the context is cut, and what was lost is said.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, DiffusionError> {
        let failed = |reason: String| DiffusionError::Config { file: self.file.clone(), reason };
        let whole = encoded(&self.tokenizer, prompt).map_err(failed)?;
        let encoding = if whole.len() > self.context {
            let mut cutting = self.tokenizer.clone();
            let limit = TruncationParams { max_length: self.context, ..TruncationParams::default() };
            let limited =
                parse("tokenizer", || cutting.with_truncation(Some(limit)).map(|_| ()).map_err(|e| e.to_string()));
            limited.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
            encoded(&cutting, prompt).map_err(failed)?
        } else {
            whole.clone()
        };
        let words = words(prompt, &encoding, self.unknown);
        let kept = encoding.get_offsets().iter().map(|o| o.1).max().unwrap_or(0);
        let cut = (whole.len() > self.context).then(|| prompt.get(kept..).unwrap_or_default().trim().to_owned());
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        ids.resize(self.context, i64::from(self.pad));
        let unknown = self.unknown_words(prompt.get(..kept).unwrap_or(prompt), &encoding);
        Ok(Tokens { ids, words, cut, unknown })
    }
}

impl TextTokenizer {
    /// Words of `prompt` that `encoding` spells with the token of the unknown, or not at all, once each.
    fn unknown_words(&self, prompt: &str, encoding: &tokenizers::Encoding) -> Vec<Unknown> {
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        let spelt = |from: usize, to: usize| offsets.iter().zip(ids).filter(move |(o, _)| o.0 < to && o.1 > from);
        let is_unknown = |(from, to): (usize, usize), word: &str| {
            let is_word = word.chars().any(char::is_alphanumeric);
            is_word && (spelt(from, to).count() == 0 || spelt(from, to).any(|(_, id)| self.is_unknown(*id, word)))
        };
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (span, word) in spans(prompt).filter(|(span, word)| is_unknown(*span, word)) {
            if seen.insert(&prompt[span.0..span.1]) {
                found.push(Unknown { word: word.to_owned(), nearest: self.nearest(word) });
            }
        }
        found
    }

    /// Whether `id`, which spells `word`, stands for everything that the vocabulary lacks.
    fn is_unknown(&self, id: u32, word: &str) -> bool {
        is_unknown(self.unknown, id) && self.tokenizer.id_to_token(id).is_none_or(|token| token != word)
    }

    /// The words of the vocabulary, as one types them.
    fn vocabulary(&self) -> BTreeSet<String> {
        let marks = |token: &String| token.trim_end_matches("</w>").trim_start_matches('▁').to_owned();
        let is_word = |token: &String| token.chars().all(char::is_alphabetic) && !token.is_empty();
        self.tokenizer.get_vocab(false).keys().map(marks).filter(is_word).collect()
    }

    /// Every word of a vocabulary that is small enough to be named; `None` for a larger one.
    pub fn small_vocabulary(&self) -> Option<Vec<String>> {
        let size = self.tokenizer.get_vocab_size(false);
        // Special tokens and punctuation are no words.
        (size <= 2 * SMALL)
            .then(|| self.vocabulary())
            .filter(|words| words.len() <= SMALL)
            .map(|w| w.into_iter().collect())
    }

    fn nearest(&self, word: &str) -> Vec<String> {
        let lower = word.to_lowercase();
        let likeness = |other: &String| strsim::normalized_damerau_levenshtein(&lower, &other.to_lowercase());
        let mut near: Vec<(f64, String)> =
            self.vocabulary().into_iter().map(|other| (likeness(&other), other)).filter(|n| n.0 >= NEAR.0).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.into_iter().take(NEAR.1).map(|n| n.1).collect()
    }
}

fn is_unknown(unknown: Option<u32>, id: u32) -> bool {
    unknown == Some(id)
}

/// The runs of letters and digits of a text, with where they stand.
fn spans(text: &str) -> impl Iterator<Item = ((usize, usize), &str)> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(move |word| {
        let from = word.as_ptr() as usize - text.as_ptr() as usize;
        ((from, from + word.len()), word)
    })
}

/// The token that a model of tokens gives to what its vocabulary lacks.
fn unknown_token(tokenizer: &Tokenizer) -> Option<u32> {
    let named = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.clone(),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        // SentencePiece's own name for it.
        ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
    };
    tokenizer.token_to_id(&named?)
}

/// A tokenizer that is one file.
fn whole(file: &Path, budget: &Budget) -> Result<Tokenizer, String> {
    let bytes = bounded::read(file, budget, Limit::TextBytes).map_err(|e| e.to_string())?;
    let read = parse("tokenizer", || Tokenizer::from_bytes(&bytes).map_err(|e| e.to_string()));
    read.unwrap_or_else(|e| Err(e.to_string())).map_err(|e| format!("is not a tokenizer: {}", printable::name(&e)))
}

/// Tokens of `text`. What a file declares wrongly shows only here, and the crate panics at some of it.
fn encoded(tokenizer: &Tokenizer, text: &str) -> Result<tokenizers::Encoding, String> {
    let encoded = parse("tokenizer", || tokenizer.encode(text, true).map_err(|e| e.to_string()));
    encoded
        .unwrap_or_else(|e| Err(e.to_string()))
        .map_err(|e| format!("cannot turn a prompt into tokens: {}; export the tokenizer again", printable::name(&e)))
}

/// Groups tokens by the word they spell: pieces that touch in the prompt and are letters or digits belong together.
fn words(prompt: &str, encoding: &tokenizers::Encoding, unknown: Option<u32>) -> Vec<Word> {
    let special = encoding.get_special_tokens_mask();
    let mut spans: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    for (at, &(from, to)) in encoding.get_offsets().iter().enumerate() {
        if special.get(at) == Some(&1) || to <= from {
            continue;
        }
        let joins = spans.last().is_some_and(|(_, end, _)| {
            let boundary = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let before = prompt.get(..*end).and_then(|p| p.chars().next_back());
            *end == from && boundary(before) && boundary(prompt.get(from..).and_then(|p| p.chars().next()))
        });
        match spans.last_mut().filter(|_| joins) {
            Some((_, end, tokens)) => {
                *end = to;
                tokens.push(at);
            }
            None => spans.push((from, to, vec![at])),
        }
    }
    let mut words: Vec<Word> = Vec::new();
    let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (from, to, tokens) in spans {
        let raw = prompt.get(from..to).unwrap_or_default();
        let start = from + (raw.len() - raw.trim_start().len());
        let span = (start, start + raw.trim().len());
        let lacks = tokens.iter().any(|&at| encoding.get_ids().get(at).is_some_and(|id| is_unknown(unknown, *id)));
        let text = format!("{}{}", raw.trim(), if lacks { " (unknown)" } else { "" });
        let count = seen.entry(text.clone()).or_insert(0);
        *count += 1;
        let text = if *count > 1 { format!("{text} ({count})") } else { text };
        words.push(Word { text, tokens, span });
    }
    words
}

fn pad_token(tokenizer: &Tokenizer, config: &Entries<'_>) -> Option<u32> {
    if let Some(padding) = tokenizer.get_padding() {
        return Some(padding.pad_id);
    }
    let named = |key: &str| {
        let entry = config.get(key)?;
        let text = entry.as_str().or_else(|| entry.get("content").and_then(Value::as_str))?;
        tokenizer.token_to_id(text)
    };
    named("pad_token").or_else(|| named("eos_token")).or_else(|| tokenizer.token_to_id("<|endoftext|>"))
}

/// CLIP's tokenizer from `vocab.json` and `merges.txt`, as older pipelines carry it.
fn clip(folder: &Path, budget: &Budget) -> Result<Tokenizer, String> {
    for name in ["vocab.json", "merges.txt"] {
        bounded::read(&folder.join(name), budget, Limit::TextBytes).map_err(|e| format!("{name} {e}"))?;
    }
    parse("tokenizer", || assembled(folder))
        .unwrap_or_else(|e| Err(e.to_string()))
        .map_err(|e| format!("is not a tokenizer with its merges.txt: {}", printable::name(&e)))
}

fn assembled(folder: &Path) -> Result<Tokenizer, String> {
    let text = |e: tokenizers::Error| e.to_string();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let model = BPE::from_file(&path("vocab.json"), &path("merges.txt"))
        .unk_token("<|endoftext|>".to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .continuing_subword_prefix(String::new())
        .build()
        .map_err(text)?;
    let mut tokenizer = Tokenizer::new(model);
    let spaces =
        Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(text)?;
    let normalizers = Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizers)).map_err(text)?;
    let split = Split::new(SplitPattern::Regex(CLIP_PATTERN.to_owned()), SplitDelimiterBehavior::Removed, true)
        .map_err(text)?;
    tokenizer
        .with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, true).into()])));
    let special = ["<|startoftext|>", "<|endoftext|>"];
    tokenizer.add_special_tokens(special.map(|s| AddedToken::from(s, true))).map_err(text)?;
    let id = |s: &str| tokenizer.token_to_id(s).ok_or_else(|| format!("the vocabulary lacks {s}"));
    let template = TemplateProcessing::builder()
        .try_single("<|startoftext|> $A <|endoftext|>")
        .map_err(|e| e.to_string())?
        .special_tokens(vec![(special[0], id(special[0])?), (special[1], id(special[1])?)])
        .build()
        .map_err(|e| e.to_string())?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/guides/tiny_clip")
    }

    /// The vocabulary of zoo/guides/tiny_clip in the two files that older pipelines carry.
    fn in_two_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let json = read_json_if_there(&zoo().join("tokenizer.json"), &Budget::default()).unwrap();
        let merges = json.pointer("/model/merges").and_then(Value::as_array).unwrap();
        let line = |merge: &Value| match merge {
            Value::Array(pair) => format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            text => format!("{}\n", text.as_str().unwrap()),
        };
        let merges: String = merges.iter().map(line).collect();
        std::fs::write(folder.path().join("merges.txt"), format!("#version: 0.2\n{merges}")).unwrap();
        let vocabulary = json.pointer("/model/vocab").unwrap();
        std::fs::write(folder.path().join("vocab.json"), vocabulary.to_string()).unwrap();
        folder
    }

    #[test]
    fn the_vocabulary_of_older_folders_gives_the_ids_of_transformers() {
        let folder = in_two_files();
        let old = TextTokenizer::open(folder.path(), 40, &Budget::default()).unwrap();
        let bytes = std::fs::read(zoo().join("reference.safetensors")).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (i, text) in std::fs::read_to_string(zoo().join("texts.txt")).unwrap().lines().enumerate() {
            let ids = reference.tensor(&format!("ids.{i}")).unwrap();
            let expected: Vec<i64> = ids.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
            assert_eq!(old.encode(text).unwrap().ids[..expected.len()], expected, "'{text}'");
        }
    }

    #[test]
    fn both_forms_of_a_tokenizer_agree_on_odd_texts() {
        let folder = in_two_files();
        let (old, new) = (
            TextTokenizer::open(folder.path(), 40, &Budget::default()).unwrap(),
            TextTokenizer::open(&zoo(), 40, &Budget::default()).unwrap(),
        );
        for text in
            ["", "  Two   spaces ", "a café's 3 big-cats!!", "it's O'Neill's", "naïve 你好 🦊 x²", "tab\tand\nline"]
        {
            assert_eq!(old.encode(text).unwrap(), new.encode(text).unwrap(), "'{text}'");
        }
    }

    fn demo() -> TextTokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models/emoji_diffusion/tokenizer");
        TextTokenizer::open(&folder, 12, &Budget::default()).unwrap()
    }

    #[test]
    fn words_that_a_small_vocabulary_lacks_are_named_with_the_nearest_it_has() {
        let tokens = demo().encode("a Frog on lava, a Frog").unwrap();
        let unknown: Vec<(&str, Vec<&str>)> =
            tokens.unknown.iter().map(|u| (u.word.as_str(), u.nearest.iter().map(String::as_str).collect())).collect();
        assert_eq!(unknown, [("Frog", vec!["frog"]), ("lava", vec![])]);
        let words: Vec<&str> = tokens.words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(
            words,
            ["a", "Frog (unknown)", "on", "lava (unknown)", ", (unknown)", "a (2)", "Frog (unknown) (2)"]
        );
        assert_eq!(demo().small_vocabulary().unwrap().len(), 23, "without the four special tokens");
    }

    #[test]
    fn what_a_vocabulary_has_and_what_a_tokenizer_can_spell_is_not_unknown() {
        assert_eq!(demo().encode("a frog left of a mushroom on yellow").unwrap().unknown, []);
        let clip = TextTokenizer::open(&zoo(), 40, &Budget::default()).unwrap();
        assert_eq!(clip.small_vocabulary(), None);
        for text in ["", "a zebra on lava", "a café's 3 big-cats!!", "naïve 你好 🦊 x²"] {
            assert_eq!(clip.encode(text).unwrap().unknown, [], "'{text}'");
        }
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let text = "a frog  left of";
        let tokens = demo().encode(text).unwrap();
        let stand: Vec<&str> = tokens.words.iter().map(|word| &text[word.span.0..word.span.1]).collect();
        assert_eq!(stand, ["a", "frog", "left", "of"]);
    }

    /// A tokenizer of words, whose post-processor puts `<start>` before and `<end>` behind; `declared` are those of them
    /// that it declares.
    fn of_words(declared: &[&str]) -> Value {
        let special: serde_json::Map<String, Value> = declared
            .iter()
            .map(|name| ((*name).to_owned(), serde_json::json!({"id": name, "ids": [1], "tokens": [name]})))
            .collect();
        serde_json::json!({
            "version": "1.0", "truncation": null, "added_tokens": [], "normalizer": null, "decoder": null,
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "<pad>"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "B", "type_id": 1}}],
                "single": [{"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "<end>", "type_id": 0}}],
                "special_tokens": special},
            "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "cat": 4},
                "unk_token": "<unk>"},
        })
    }

    fn opened(json: &Value, config: Option<&str>, budget: &Budget) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        config.iter().for_each(|text| std::fs::write(folder.path().join("tokenizer_config.json"), text).unwrap());
        let tokenizer = TextTokenizer::open(folder.path(), 8, budget).map_err(|e| e.to_string())?;
        tokenizer.encode("cat").map_err(|e| e.to_string())
    }

    #[test]
    fn a_special_token_that_is_not_declared_is_an_error_that_names_the_file() {
        let budget = Budget::default();
        assert_eq!(opened(&of_words(&["<start>", "<end>"]), None, &budget).unwrap().ids, [1, 4, 1, 0, 0, 0, 0, 0]);
        for declared in [&["<start>"][..], &[]] {
            let error = opened(&of_words(declared), None, &budget).unwrap_err();
            assert!(error.contains("tokenizer.json") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_tokenizer_beyond_the_bounds_is_refused_before_it_is_used() {
        let both = of_words(&["<start>", "<end>"]);
        let error = opened(&both, None, &Budget::default().with(Limit::Tokens, 4)).unwrap_err();
        assert!(error.contains("tokenizer.json") && error.contains("5 tokens needed, 4 tokens allowed"), "{error}");
        let error = opened(&both, None, &Budget::default().with(Limit::TextBytes, 100)).unwrap_err();
        assert!(error.contains("tokenizer.json") && error.contains("100 bytes allowed"), "{error}");
    }

    #[test]
    fn a_length_that_makes_no_sense_is_refused_and_an_absurdly_long_one_is_none() {
        let (both, budget) = (of_words(&["<start>", "<end>"]), Budget::default());
        for wrong in ["0", "-1", "\"long\"", "[]"] {
            let error = opened(&both, Some(&format!("{{\"model_max_length\": {wrong}}}")), &budget).unwrap_err();
            assert!(error.contains("tokenizer_config.json") && error.contains("model_max_length"), "{error}");
        }
        let long = opened(&both, Some("{\"model_max_length\": 1000000000000000019884624838656}"), &budget).unwrap();
        assert_eq!(long.ids.len(), 8);
        // Shorter than what the post-processor adds: an error of the crate's, or its panic.
        let error = opened(&both, Some("{\"model_max_length\": 1}"), &budget).unwrap_err();
        assert!(error.contains("tokenizer.json"), "{error}");
        let error = opened(&both, Some("[1]"), &budget).unwrap_err();
        assert!(error.contains("tokenizer_config.json"), "{error}");
    }
}
