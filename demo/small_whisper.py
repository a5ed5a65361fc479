"""Trains a small real Whisper from scratch on synthetic speech, in 16 minutes of one CPU core.

    python -m demo.small_whisper --output demo/model

The result is an ordinary Whisper: transformers loads and fine-tunes it, CTranslate2 converts it,
faster-whisper transcribes with it, with languages, timestamps and no-speech. Only its size
differs: 3 + 3 layers of width 96 and a byte-level BPE of the demonstration's own 42 words, 2.5 MB
in all. It knows the voices of `BASE_VOICES` and does badly on any other, which is what the
demonstration needs.

Five things let a model of this size learn from so little. None of them is left in what is saved.

- Xavier and Kaiming initialisation in place of N(0, 0.02), which starves a narrow model, and
  encoder heads that start out looking a few positions back or ahead.
- The encoder learns first, alone, to tell for each frame the phoneme, the word, the word before
  and how many came before in the sentence. Synthetic speech comes with these labels.
- One head of each decoder layer is guided to the frames of the token that is to be written next.
  Those are also honest alignment heads for word timestamps.
- Windows grow from 4 to 30 s. A short window lies at a random offset of the encoder's 1500
  positions, so that every position and every timestamp is trained from the start.
- Each window is written both with and without timestamps in the same step.
"""

import argparse
import itertools
import json
import math
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from torch.nn import functional as F
from transformers import (
    AddedToken,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
    logging,
)
from transformers.models.whisper.modeling_whisper import WhisperAttention
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from corpus.text import error_rates, normalise
from demo.voices import (
    BASE_VOICES,
    DEMO_VOICES,
    SAMPLE_RATE,
    Span,
    Utterance,
    Voice,
    recorded,
    sentences,
    utter,
)

WIDTH, HEADS, LAYERS = 96, 3, 3
WINDOW_SECONDS = 30.0
FRAME_SECONDS = 0.02  # one encoder position, one timestamp tick
LOOK = [
    (-4, 0, 4),
    (-10, 6, 10),
    (-25, -8, 15),
]  # positions: where the encoder's heads look at first
LOOK_GAIN = 2.5
GUIDED_HEAD = 0
IGNORE = -100  # the label that cross_entropy leaves out
MAX_WORDS = 8  # of a sentence


@dataclass(frozen=True)
class Stage:
    """Training on windows of one length."""

    seconds: float
    batch: int
    steps: int
    decoder: bool


STAGES = [
    Stage(seconds=4.0, batch=16, steps=600, decoder=False),
    Stage(seconds=6.0, batch=12, steps=700, decoder=True),
    Stage(seconds=12.0, batch=6, steps=400, decoder=True),
    Stage(seconds=30.0, batch=3, steps=250, decoder=True),
]
LEARNING_RATE = 2e-3
POOL = 3500  # sentences, some two hours of speech
WARM_UP = 50  # steps, at the start of each stage


# -- speech --


def utterances(voices: list[Voice], n: int, seed: int, varied: bool = False) -> list[Utterance]:
    """`n` sentences, each by one of the voices.

    `varied` draws other rates, pitches and sizes of the mouth than the voice's own, and a room.
    """
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    spoken = []
    for text in sentences(rng, n):
        voice = rng.choice(voices)
        if not varied:
            spoken.append(utter(text, voice))
            continue
        voice = replace(voice, rate=rng.randint(120, 200), pitch=rng.randint(20, 80))
        clean = utter(text, voice)
        factor = rng.uniform(0.9, 1.12)  # a larger or smaller mouth, slower or faster
        pcm = soxr.resample(clean.pcm, SAMPLE_RATE, SAMPLE_RATE * factor)
        words, phonemes = (
            [Span(s.text, s.start * factor, s.end * factor) for s in spans]
            for spans in (clean.words, clean.phonemes)
        )
        spoken.append(Utterance(recorded(pcm, noise), words, phonemes))
    return spoken


@dataclass(frozen=True)
class Window:
    """Utterances laid into one stretch of audio, each with its start in seconds.

    `cut` is the start of a further utterance that does not end within the window.
    """

    pcm: np.ndarray
    placed: list[tuple[float, Utterance]]
    cut: float | None = None


def window(pool: list[Utterance], seconds: float, rng: random.Random) -> Window:
    """A window of sentences from the pool and pauses; now and then one without any speech."""
    samples = int(seconds * SAMPLE_RATE)
    hiss = np.random.default_rng(rng.getrandbits(32)).normal(size=samples)
    audio = hiss * 10 ** rng.uniform(-1, 2)
    placed: list[tuple[float, Utterance]] = []
    cut = None
    pause = rng.choice([0.08, 0.2, 0.5])
    busy = seconds if rng.random() < 0.6 else rng.uniform(2.0, seconds)
    at = rng.uniform(0.0, 0.6)
    speechless = rng.random() < 0.03
    while not speechless:
        utterance = rng.choice(pool)
        start = round(at / FRAME_SECONDS) * FRAME_SECONDS
        end, first = start + utterance.seconds, round(start * SAMPLE_RATE)
        if placed and end > busy:
            if end > seconds > start + 0.5 and rng.random() < 0.3:
                audio[first:] += utterance.pcm[: samples - first]
                cut = start
            break
        if end > seconds:
            continue
        audio[first : first + len(utterance.pcm)] += utterance.pcm
        placed.append((start, utterance))
        at = end + min(rng.expovariate(1 / pause), 3.0)
    return Window(np.clip(audio, -32768, 32767).astype(np.int16), placed, cut)


# -- tokens --


def build_tokenizer() -> WhisperTokenizer:
    """Whisper's layout of tokens over a byte-level BPE that has each word of the grammar whole.

    The empty token before <|endoftext|> is Whisper's too: by it CTranslate2 knows a multilingual
    vocabulary.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (" " + text for text in sentences(random.Random(0), 2000)),
        vocab_size=1000,
        show_progress=False,
    )
    model = json.loads(bpe.to_str())["model"]
    vocabulary = {token: i for i, token in enumerate([*model["vocab"], "", "<|endoftext|>"])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])
    languages = [f"<|{code}|>" for code in list(LANGUAGES)[:99]]
    tokenizer.add_special_tokens(
        {
            "extra_special_tokens": [
                "<|startoftranscript|>",
                *languages,
                "<|translate|>",
                "<|transcribe|>",
                "<|startoflm|>",
                "<|startofprev|>",
                "<|nospeech|>",
                "<|notimestamps|>",
            ]
        }
    )
    tokenizer.add_tokens(
        [AddedToken(f"<|{tick * FRAME_SECONDS:.2f}|>", normalized=False) for tick in range(1501)]
    )
    tokenizer.set_prefix_tokens(language="en", task="transcribe")
    return tokenizer


class Token(NamedTuple):
    """A token that the decoder reads and writes."""

    id: int
    scored: bool = False
    heard: tuple[float, float] | None = None  # seconds of the window


class Targets:
    """What the decoder shall write for a window, and what the encoder shall know of its frames."""

    def __init__(self, tokenizer: WhisperTokenizer, pool: list[Utterance]) -> None:
        token = tokenizer.convert_tokens_to_ids
        self.start, self.end = token("<|startoftranscript|>"), token("<|endoftext|>")
        self.language, self.task = token("<|en|>"), token("<|transcribe|>")
        self.no_timestamps, self.no_speech = token("<|notimestamps|>"), token("<|nospeech|>")
        self.previous, self.zero = token("<|startofprev|>"), token("<|0.00|>")
        words = sorted({word.text for utterance in pool for word in utterance.words})
        phonemes = sorted({p.text for utterance in pool for p in utterance.phonemes} - {""})
        self.ids = {
            word: tokenizer.encode(" " + word, add_special_tokens=False)[0] for word in words
        }
        self.word_class = {word: 1 + i for i, word in enumerate(words)}
        self.phoneme_class = {phoneme: 1 + i for i, phoneme in enumerate(phonemes)}

    def sequence(
        self, window: Window, origin: float, timestamps: bool, prompt: list[str]
    ) -> list[Token]:
        """The window's tokens, after those of a prompt of earlier words.

        `origin` is the time of the window's start on the encoder's 30 s scale.
        """

        def stamp(at: float) -> Token:
            tick = min(round((origin + at) / FRAME_SECONDS), 1500)
            return Token(self.zero + tick, True, (at - 0.1, at + 0.1))

        head = [self.previous, *(self.ids[word] for word in prompt)] if prompt else []
        tokens = [Token(i) for i in [*head, self.start]]
        if timestamps and not window.placed:
            return [*tokens, Token(self.no_speech, True), Token(self.end, True)]
        tokens += [Token(self.language, True), Token(self.task)]
        if not timestamps:
            tokens.append(Token(self.no_timestamps))
        for start, utterance in window.placed:
            words = [
                Token(self.ids[word.text], True, (start + word.start, start + word.end))
                for word in utterance.words
            ]
            if timestamps:
                words = [stamp(start), *words, stamp(start + utterance.seconds)]
            tokens += words
        if timestamps and window.cut is not None:
            tokens.append(stamp(window.cut))
        return [*tokens, Token(self.end, True)]

    def frames(self, window: Window, positions: int) -> torch.Tensor:
        """For each position its phoneme, its word, the word before and its number: [positions, 4].

        Zero stands for silence; words are numbered from one within their sentence.
        """
        labels = torch.zeros(positions, 4, dtype=torch.long)
        before = 0
        for start, utterance in window.placed:

            def heard(span: Span, start: float = start) -> slice:
                return slice(
                    *(round((start + at) / FRAME_SECONDS) for at in (span.start, span.end))
                )

            for phoneme in utterance.phonemes:
                labels[heard(phoneme), 0] = self.phoneme_class.get(phoneme.text, 0)
            for number, word in enumerate(utterance.words, 1):
                labels[heard(word), 1:] = torch.tensor([self.word_class[word.text], before, number])
                before = self.word_class[word.text]
        return labels


@dataclass(frozen=True)
class Batch:
    """Windows of one length with two targets each: row i with timestamps, windows + i without."""

    mel: torch.Tensor  # [windows, 80, 2 * positions]
    offset: torch.Tensor  # [windows], the encoder position of the first frame
    frames: torch.Tensor  # [windows, positions, 4]
    inputs: torch.Tensor  # [2 * windows, tokens]
    labels: torch.Tensor  # [2 * windows, tokens]
    heard: torch.Tensor  # [2 * windows, tokens, positions], true where the label is heard


def make_batch(
    pool: list[Utterance],
    stage: Stage,
    targets: Targets,
    features: WhisperFeatureExtractor,
    rng: random.Random,
) -> Batch:
    """A batch of fresh windows."""
    positions = round(stage.seconds / FRAME_SECONDS)
    windows = [window(pool, stage.seconds, rng) for _ in range(stage.batch)]
    # Half of the short windows start at zero, as they do where the model is used.
    offsets = [rng.choice([0, rng.randint(0, 1500 - positions)]) for _ in windows]
    prompts = [
        " ".join(sentences(rng, rng.randint(1, 4))).split() if rng.random() < 0.15 else []
        for _ in windows
    ]
    rows = [
        targets.sequence(w, offset * FRAME_SECONDS, timestamps, prompt)
        for timestamps in (True, False)
        for w, offset, prompt in zip(windows, offsets, prompts, strict=True)
    ]
    length = max(map(len, rows)) - 1
    inputs = torch.full((len(rows), length), targets.end)
    labels = torch.full((len(rows), length), IGNORE)
    heard = torch.zeros(len(rows), length, positions, dtype=torch.bool)
    for i, row in enumerate(rows):
        inputs[i, : len(row) - 1] = torch.tensor([token.id for token in row[:-1]])
        if i >= len(windows) and windows[i - len(windows)].cut is not None:
            continue  # without timestamps there is no way to write that a sentence is cut
        for j, token in enumerate(row[1:]):
            if token.scored:
                labels[i, j] = token.id
            if token.heard is not None:
                first, last = (round(at / FRAME_SECONDS) for at in token.heard)
                heard[i, j, max(0, first) : max(last, first + 1)] = True
    return Batch(
        mel=features(
            [w.pcm / 32768 for w in windows],
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=int(stage.seconds * SAMPLE_RATE),
            return_tensors="pt",
        ).input_features,
        offset=torch.tensor(offsets),
        frames=torch.stack([targets.frames(w, positions) for w in windows]),
        inputs=inputs,
        labels=labels,
        heard=heard,
    )


# -- the model --


def build_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """An untrained small Whisper, initialised for its width."""
    token = tokenizer.convert_tokens_to_ids
    end, start = token("<|endoftext|>"), token("<|startoftranscript|>")
    ends = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
    }
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            **ends,
        )
    )
    space = token("\u0120")  # a lone space, in the byte-level alphabet
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={code: token(code) for code in (f"<|{c}|>" for c in list(LANGUAGES)[:99])},
        task_to_id={task: token(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=token("<|notimestamps|>"),
        prev_sot_token_id=token("<|startofprev|>"),
        alignment_heads=[[layer, GUIDED_HEAD] for layer in range(1, LAYERS)],
        suppress_tokens=[
            token(f"<|{name}|>")
            for name in (
                "startoftranscript",
                "translate",
                "transcribe",
                "startoflm",
                "startofprev",
                "nospeech",
            )
        ],
        begin_suppress_tokens=[space, end],
        max_initial_timestamp_index=50,
        max_length=448,
        return_timestamps=False,
        **ends,
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(
                module.weight, gain=0.4 if name.endswith(("out_proj", "fc2")) else 1.0
            )
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    words, sinusoids = (
        model.model.decoder.embed_tokens.weight,
        model.model.encoder.embed_positions.weight,
    )
    with torch.no_grad():
        words.normal_(std=0.1)
        model.model.decoder.embed_positions.weight.normal_(std=0.05)
        # A timestamp is a rotation of the position it stands for: neighbours are alike.
        ticks = torch.cat([sinusoids, sinusoids[-1:]])
        rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0]
        words[token("<|0.00|>") :] = 0.15 * ticks @ rotation
        sinusoids *= 0.5
        for layer, distances in zip(model.model.encoder.layers, LOOK, strict=True):
            for head, distance in enumerate(distances):
                look(layer.self_attn, head, distance)
    model.tie_weights()
    return model


def look(attention: WhisperAttention, head: int, distance: int) -> None:
    """Makes a head of the encoder start out looking `distance` positions ahead of each position.

    The products of two positions' sinusoids add up where their phases agree. So the queries copy
    the position and the keys turn it back by the distance.
    """
    half, size = WIDTH // 2, attention.head_dim
    frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    middle = torch.nonzero(
        (frequencies < 2 * math.pi / 14) & (frequencies > 2 * math.pi / 1400)
    ).flatten()
    chosen = middle[torch.linspace(0, len(middle) - 1, size // 2).round().long()]
    sine = head * size + torch.arange(0, size, 2)
    cosine = sine + 1
    turn = frequencies[chosen] * distance
    with torch.no_grad():
        for weight in (attention.q_proj.weight, attention.k_proj.weight):
            weight[head * size : (head + 1) * size] *= 0.3
        attention.q_proj.weight[sine, chosen] += LOOK_GAIN
        attention.q_proj.weight[cosine, half + chosen] += LOOK_GAIN
        attention.k_proj.weight[sine, chosen] += LOOK_GAIN * turn.cos()
        attention.k_proj.weight[sine, half + chosen] -= LOOK_GAIN * turn.sin()
        attention.k_proj.weight[cosine, half + chosen] += LOOK_GAIN * turn.cos()
        attention.k_proj.weight[cosine, chosen] += LOOK_GAIN * turn.sin()


def encode(
    model: WhisperForConditionalGeneration, mel: torch.Tensor, offset: torch.Tensor
) -> list[torch.Tensor]:
    """The encoder on windows shorter than 30 s that start at any position.

    Returns the states after each layer, and last the normalised states that the decoder reads,
    each [windows, positions, width].
    """
    encoder = model.model.encoder
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
    x = x + encoder.embed_positions(offset[:, None] + torch.arange(x.shape[1]))
    states = []
    for layer in encoder.layers:
        x = layer(x, None)
        states.append(x)
    return [*states, encoder.layer_norm(x)]


class GuidedHeads:
    """Watches one cross-attention head of each decoder layer: does it look where it should?"""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self.attentions = [layer.encoder_attn for layer in model.model.decoder.layers]
        self.seen: dict[nn.Module, torch.Tensor] = {}
        for attention in self.attentions:
            for projection in (attention.q_proj, attention.k_proj):
                projection.register_forward_hook(self._see)

    def _see(self, module: nn.Module, _: object, output: torch.Tensor) -> None:
        self.seen[module] = output

    def loss(self, heard: torch.Tensor) -> torch.Tensor:
        """The mean of minus the log of the attention on the frames where the label is heard."""
        guided = heard.any(-1)
        total = torch.zeros(())
        for attention in self.attentions:
            head = slice(GUIDED_HEAD * attention.head_dim, (GUIDED_HEAD + 1) * attention.head_dim)
            query = self.seen[attention.q_proj][..., head] * attention.scaling
            scores = query @ self.seen[attention.k_proj][..., head].transpose(1, 2)
            there = scores.masked_fill(~heard, -1e4).logsumexp(-1) - scores.logsumexp(-1)
            total = total - there[guided].mean() if guided.any() else total
        return total / len(self.attentions)


class FrameTeacher(nn.Module):
    """Asks the encoder's first layer for each frame's phoneme, its last for the word and place."""

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        words = 1 + len(targets.word_class)
        self.phonemes = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1 + len(targets.phoneme_class))
        )
        self.words = nn.ModuleList(nn.Linear(WIDTH, n) for n in (words, words, 1 + MAX_WORDS))

    def loss(self, states: list[torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
        """The sum of the four cross-entropies per frame."""
        answers = [self.phonemes(states[0]), *(head(states[-1]) for head in self.words)]
        losses = [F.cross_entropy(x.transpose(1, 2), frames[..., i]) for i, x in enumerate(answers)]
        return torch.stack(losses).sum()


# -- training --


def train(
    model: WhisperForConditionalGeneration,
    tokenizer: WhisperTokenizer,
    stages: list[Stage],
    pool: list[Utterance],
    seed: int,
) -> None:
    """Trains the model in place, stage by stage, with a line of progress every 50 steps."""
    rng = random.Random(seed)
    features, targets, guide = (
        WhisperFeatureExtractor(),
        Targets(tokenizer, pool),
        GuidedHeads(model),
    )
    teacher = FrameTeacher(targets)
    parameters = [*(p for p in model.parameters() if p.requires_grad), *teacher.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    total, done, begun = sum(stage.steps for stage in stages), 0, time.monotonic()
    model.train()
    for stage in stages:
        for step in range(stage.steps):
            batch = make_batch(pool, stage, targets, features, rng)
            states = encode(model, batch.mel, batch.offset)
            loss = frame_loss = teacher.loss(states, batch.frames)
            text_loss = guide_loss = torch.zeros(())
            if stage.decoder:
                hidden = model.model.decoder(
                    input_ids=batch.inputs,
                    encoder_hidden_states=states[-1].repeat(2, 1, 1),
                    use_cache=False,
                ).last_hidden_state
                text_loss = F.cross_entropy(model.proj_out(hidden).transpose(1, 2), batch.labels)
                guide_loss = guide.loss(batch.heard)
                loss = text_loss + 0.5 * frame_loss + 0.5 * guide_loss
            decay = min(1.0, 3 * (1 - done / total))  # over the last third
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * decay
            optimiser.zero_grad()
            loss.backward()
            for part in (model.model.encoder, model.model.decoder):
                nn.utils.clip_grad_norm_(part.parameters(), 1.0)
            optimiser.step()
            done += 1
            if done % 50 == 0 or done == total:
                rate = done / (time.monotonic() - begun)
                print(
                    f"{stage.seconds:4.1f} s windows, step {done}/{total}: text {text_loss:.3f} "
                    f"attention {guide_loss:.3f} frames {frame_loss:.3f}, {rate:.2f} steps/s, "
                    f"{(total - done) / rate / 60:.1f} min left",
                    flush=True,
                )
    model.eval()


# -- evaluation --


def transcribe(
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    recordings: list[np.ndarray],
    timestamps: bool = False,
) -> list[str]:
    """The text of each recording, int16 [samples] of at most 30 s at 16 kHz, by greedy decoding."""
    texts: list[str] = []
    for i in range(0, len(recordings), 8):
        mel = processor.feature_extractor(
            [pcm / 32768 for pcm in recordings[i : i + 8]],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
        ).input_features
        tokens = model.generate(
            mel, language="en", task="transcribe", return_timestamps=timestamps, max_new_tokens=200
        )
        texts += processor.batch_decode(tokens, skip_special_tokens=True)
    return texts


def word_error_rate(
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    windows: list[Window],
    timestamps: bool,
) -> float:
    """WER of greedy decoding over the windows."""
    spoken = [" ".join(utterance.text for _, utterance in window.placed) for window in windows]
    heard = transcribe(model, processor, [window.pcm for window in windows], timestamps)
    return error_rates([normalise(t) for t in spoken], [normalise(t) for t in heard]).wer


def report(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, seed: int, seen: set[str]
) -> None:
    """Prints the WER on sentences that were not `seen` in training: alone, and several in 30 s."""
    print(f"{'voices':10}{'windows':28}{'text':>10}{'timestamps':>14}")
    for name, voices in (("base", BASE_VOICES), ("demo", DEMO_VOICES)):
        spoken = [u for u in utterances(voices, 150, seed) if u.text not in seen][:100]
        rng = random.Random(seed)
        drawn = (window(spoken, WINDOW_SECONDS, rng) for _ in itertools.count())
        windows = {
            "one sentence": [Window(u.pcm, [(0.0, u)]) for u in spoken],
            "several sentences in 30 s": list(
                itertools.islice((w for w in drawn if w.placed and w.cut is None), 24)
            ),
        }
        for kind, chosen in windows.items():
            text, stamped = (
                f"{word_error_rate(model, processor, chosen, timestamps):.1%}"
                for timestamps in (False, True)
            )
            print(f"{name:10}{kind:28}{text:>10}{stamped:>14}", flush=True)


def save(model: WhisperForConditionalGeneration, processor: WhisperProcessor, folder: Path) -> None:
    """Writes a Hugging Face model folder with the weights in half precision."""
    model.half().save_pretrained(folder)
    model.float()
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)  # the file that faster-whisper reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--steps", type=int, help="steps in all, shared among the stages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.set_verbosity_error()

    share = options.steps / sum(stage.steps for stage in STAGES) if options.steps else 1.0
    stages = [replace(stage, steps=max(1, round(stage.steps * share))) for stage in STAGES]
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    processor = WhisperProcessor(WhisperFeatureExtractor(), tokenizer)
    print(f"speaking {POOL} sentences in {len(BASE_VOICES)} voices", flush=True)
    pool = utterances(BASE_VOICES, POOL, options.seed, varied=True)
    train(model, tokenizer, stages, pool, options.seed)
    save(model, processor, options.output)
    report(model, processor, options.seed + 1, {utterance.text for utterance in pool})


if __name__ == "__main__":
    main()
