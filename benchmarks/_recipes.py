"""Two ways of fine-tuning the demonstration's model, with their clocks: ours, and the event's.

The recipe of the Whisper fine-tuning event as it is used with today's libraries: a clip in each
window of 30 s, features by `WhisperFeatureExtractor` in `map`, transformers' `Seq2SeqTrainer` with
the model's own loss and the settings it has by default. Both run in fp32 without DeepSpeed, warm
their learning rate up over a tenth of the steps, and let it fall linearly to zero.

Time is the CPU's of this process from the first step on: other programs make the clock's longer,
and what the event's recipe makes beforehand, in `map`, is not counted.
"""

import itertools
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.audio import SAMPLE_RATE
from corpus.dataset import read_split
from train import model as models
from train.config import FitConfig
from train.data import open_data
from train.engine import Engine, Inputs, joined_processes, new_engine
from train.rows import read_flac
from train.trainer import Run, prepare

MODEL = Path(__file__).parents[1] / "demo" / "model"

WARM_AFTER = 2
"""Steps."""


def median_step(clock: Sequence[float]) -> float:
    """Seconds of a step once the first ones are over."""
    return statistics.median(
        after - before for before, after in itertools.pairwise(clock[WARM_AFTER - 1 :])
    )


class _Clocked:
    """An engine that notes the CPU time at which each step begins."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.description = engine, engine.description
        self.starts: list[float] = []

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[torch.Tensor, float]:
        """See `Engine.step`."""
        self.starts.append(time.process_time())
        return self.engine.step(micro_batches, tokens)

    def save(self, folder: Path) -> None:
        """See `Engine.save`."""
        self.engine.save(folder)

    def load(self, folder: Path, saved_by: int) -> None:
        """See `Engine.load`."""
        self.engine.load(folder, saved_by)

    def whole_model(self) -> dict[str, torch.Tensor] | None:
        """See `Engine.whole_model`."""
        return self.engine.whole_model()


def fit_packed(
    dataset: Path,
    output: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    save_every: int = 0,
    workers: int = 0,
) -> list[float]:
    """`train fit` on one thread, without dev: CPU seconds until the end of each step.

    OUTPUT/weights/step-N gets the model after each `save_every` steps, OUTPUT/metrics.jsonl the
    figures of the steps. Whatever `workers` read is not in the time.
    """
    config = FitConfig(
        (str(dataset),),
        str(MODEL),
        str(output),
        deepspeed="none",
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        eval_every=0,
        save_every=save_every,
        workers=workers,
    )
    whisper = models.load(config.model)
    data = open_data(config, whisper)
    with joined_processes(config.deepspeed) as processes:
        plan = config.plan(
            epoch_windows=data.stream.count(1), learning_rate=learning_rate, world=1, on_gpu=False
        )
        loss = prepare(whisper, config, sources=len(data.reader.sources))
        engine = _Clocked(new_engine(loss, config, plan, processes))
        run = Run(config, plan, output, whisper, engine, processes, data, None)
        run.start()
        began = time.process_time()
        run.train()
        ended = time.process_time()
    return [moment - began for moment in [*engine.starts[1:], ended]]


def fit_event(
    clips: Path,
    output: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    save_every: int = 0,
) -> list[float]:
    """The event's recipe: CPU seconds until the end of each step.

    OUTPUT/weights/step-N gets the model after each `save_every` steps.

    Args:
        clips: a dataset with one clip in each row.
    """
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    whisper = models.load(str(MODEL))
    tokenizer = whisper.tokenizer
    tokenizer.set_prefix_tokens(language="en", task="transcribe")
    tokenizer.pad_token = tokenizer.eos_token
    start = whisper.vocabulary.start

    def features(row: dict[str, Any]) -> dict[str, Any]:
        audio = read_flac(row["audio"]["bytes"]).astype(np.float32) / 32768
        made = whisper.feature_extractor(audio, sampling_rate=SAMPLE_RATE)
        return {
            "input_features": made.input_features[0],
            "labels": tokenizer(row["text"]).input_ids,
        }

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = whisper.feature_extractor.pad(
            [{"input_features": item["input_features"]} for item in items], return_tensors="pt"
        )
        padded = tokenizer.pad(
            [{"input_ids": item["labels"]} for item in items], return_tensors="pt"
        )
        labels = padded["input_ids"].masked_fill(padded.attention_mask.ne(1), -100)
        batch["labels"] = labels[:, 1:] if (labels[:, 0] == start).all() else labels
        return dict(batch)

    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            moments.append(time.process_time())

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if save_every and state.global_step % save_every == 0:
                models.save(whisper, output / "weights" / f"step-{state.global_step:08d}")
            moments.append(time.process_time())

    rows = read_split(clips, "train")
    output.mkdir(parents=True)
    Seq2SeqTrainer(
        model=whisper.model,
        args=Seq2SeqTrainingArguments(
            str(output / "trainer"),
            per_device_train_batch_size=batch_size,
            max_steps=steps,
            learning_rate=learning_rate,
            warmup_steps=round(steps / 10),
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        # In the folder, since the cache would keep a gigabyte for each 1,100 clips.
        train_dataset=rows.map(
            features,
            remove_columns=rows.column_names,
            cache_file_name=str(output / "features.arrow"),
        ),
        data_collator=collate,
        callbacks=[Clock()],
    ).train()
    return [moment - moments[0] for moment in moments[1:]]
