//! Tokenizers.

use crate::{budget, chosen, says_something, scratch};
use pellucid::internals::diffusion_methods::parsers::TextTokenizer;

/// A pipeline's tokenizer: `tokenizer.json`, or, where the first byte is odd, CLIP's `vocab.json` and `merges.txt` with a
/// zero byte between them. Prompts become as many tokens as the context has, and every word's tokens lie within it.
pub fn tokenizer(data: &[u8]) {
    let Some((kind, data)) = chosen(data) else { return };
    let empty: &[u8] = b"";
    let (vocabulary, merges) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, empty),
    };
    let json: &[(&str, &[u8])] = &[("tokenizer.json", data)];
    let clip: &[(&str, &[u8])] = &[("vocab.json", vocabulary), ("merges.txt", merges)];
    scratch::with_files(if kind & 1 == 0 { json } else { clip }, |folder| {
        let tokenizer = match TextTokenizer::open(folder, 16, &budget()) {
            Ok(tokenizer) => tokenizer,
            Err(error) => return says_something(&error),
        };
        for prompt in ["", "a frog left of a mushroom, on yellow", "\u{1f438} l'été 猫 123 \n\t e\u{301} <|endoftext|>"]
        {
            match tokenizer.encode(prompt) {
                Ok(tokens) => {
                    assert_eq!(tokens.ids.len(), tokenizer.context);
                    let inside =
                        |word: &&pellucid::internals::diffusion_methods::Word| word.tokens.iter().all(|t| *t < 16);
                    assert_eq!(tokens.words.iter().filter(inside).count(), tokens.words.len());
                }
                Err(error) => says_something(&error),
            }
        }
    });
}
