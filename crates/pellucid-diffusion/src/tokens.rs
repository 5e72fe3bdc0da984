//! Prompts to tokens, and tokens back to the words a user typed.

use crate::config::read_json;
use crate::error::DiffusionError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
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
    /// As typed; a word that occurs again carries its number: `a (2)`.
    pub text: String,
    /// Positions of its tokens in the context.
    pub tokens: Vec<usize>,
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
}

const CLIP_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

impl TextTokenizer {
    /// Reads the tokenizer in `folder`: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`. `context` is used where
    /// no config says a length.
    pub fn open(folder: &Path, context: usize) -> Result<Self, DiffusionError> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.json"));
        let config = read_json(&folder.join("tokenizer_config.json")).unwrap_or(Value::Null);
        let (tokenizer, file) = if json.exists() {
            (Tokenizer::from_file(&json).map_err(|e| e.to_string()), json)
        } else if vocabulary.exists() {
            (clip(folder), vocabulary)
        } else {
            let expected = "tokenizer/tokenizer.json, or tokenizer/vocab.json and merges.txt".to_owned();
            let folder = folder.parent().unwrap_or(folder).to_path_buf();
            return Err(DiffusionError::Missing { folder, component: "tokenizer", expected });
        };
        let failed = |reason: String| DiffusionError::Config { file: file.clone(), reason };
        let mut tokenizer = tokenizer.map_err(|e| failed(format!("is not a tokenizer: {e}")))?;
        let declared = config.get("model_max_length").and_then(Value::as_u64).filter(|n| *n < 100_000);
        let context = declared.map_or(context, |n| n as usize).min(context.max(1));
        let pad =
            pad_token(&tokenizer, &config).ok_or_else(|| failed("it names no padding or end token".to_owned()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| failed(e.to_string()))?;
        Ok(Self { tokenizer, file, context, pad })
    }

    /// Tokens of `prompt`. A prompt that is longer than the context is cut, and what was lost is said.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, DiffusionError> {
        let failed = |e: tokenizers::Error| DiffusionError::Config { file: self.file.clone(), reason: e.to_string() };
        let whole = self.tokenizer.encode(prompt, true).map_err(failed)?;
        let encoding = if whole.len() > self.context {
            let mut cutting = self.tokenizer.clone();
            let limit = TruncationParams { max_length: self.context, ..TruncationParams::default() };
            cutting.with_truncation(Some(limit)).map_err(failed)?;
            cutting.encode(prompt, true).map_err(failed)?
        } else {
            whole.clone()
        };
        let words = words(prompt, &encoding);
        let kept = encoding.get_offsets().iter().map(|o| o.1).max().unwrap_or(0);
        let cut = (whole.len() > self.context).then(|| prompt.get(kept..).unwrap_or_default().trim().to_owned());
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        ids.resize(self.context, i64::from(self.pad));
        Ok(Tokens { ids, words, cut })
    }
}

/// Groups tokens by the word they spell: pieces that touch in the prompt and are letters or digits belong together.
fn words(prompt: &str, encoding: &tokenizers::Encoding) -> Vec<Word> {
    let special = encoding.get_special_tokens_mask();
    let mut spans: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    for (at, &(from, to)) in encoding.get_offsets().iter().enumerate() {
        if special[at] == 1 || to <= from {
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
        let text = prompt.get(from..to).unwrap_or_default().trim().to_owned();
        let count = seen.entry(text.clone()).or_insert(0);
        *count += 1;
        let text = if *count > 1 { format!("{text} ({count})") } else { text };
        words.push(Word { text, tokens });
    }
    words
}

fn pad_token(tokenizer: &Tokenizer, config: &Value) -> Option<u32> {
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
fn clip(folder: &Path) -> Result<Tokenizer, String> {
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
    tokenizer.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])));
    let split = Split::new(SplitPattern::Regex(CLIP_PATTERN.to_owned()), SplitDelimiterBehavior::Removed, true)
        .map_err(text)?;
    tokenizer
        .with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, true).into()])));
    let special = ["<|startoftext|>", "<|endoftext|>"];
    tokenizer.add_special_tokens(&special.map(|s| AddedToken::from(s, true)));
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
        let json = read_json(&zoo().join("tokenizer.json")).unwrap();
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
        let old = TextTokenizer::open(folder.path(), 40).unwrap();
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
        let (old, new) = (TextTokenizer::open(folder.path(), 40).unwrap(), TextTokenizer::open(&zoo(), 40).unwrap());
        for text in
            ["", "  Two   spaces ", "a café's 3 big-cats!!", "it's O'Neill's", "naïve 你好 🦊 x²", "tab\tand\nline"]
        {
            assert_eq!(old.encode(text).unwrap(), new.encode(text).unwrap(), "'{text}'");
        }
    }
}
