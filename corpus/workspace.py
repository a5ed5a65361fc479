"""The workspace: a folder with its configuration, its catalogue and everything made from them."""

import contextlib
import fcntl
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from corpus.errors import UserError
from corpus.pack import SINGLE_SHARE
from corpus.text import is_language_code

CONFIG_NAME = "corpus.toml"

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="The workspace folder. Default: the one around this folder."),
]


@dataclass(frozen=True)
class FetchConfig:
    """What `corpus run` fetches."""

    urls: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    max_videos: int | None = None
    max_hours: float | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    allow_nc: bool = False
    any_language: bool = False
    subtitles_only: bool = False
    proxy: str | None = None
    rate_limit: str | None = None
    check_certificate: bool = True
    sleep: bool = True


@dataclass(frozen=True)
class ImportConfig:
    """What `corpus run` adds and imports from this machine."""

    add: list[str] = field(default_factory=list)
    common_voice: list[str] = field(default_factory=list)
    validated_rest: bool = False
    other: bool = False
    fleurs: list[str] = field(default_factory=list)
    hf: list[str] = field(default_factory=list)
    licence: str = "own"


@dataclass(frozen=True)
class SegmentConfig:
    """How recordings are cut."""

    target_seconds: float = 27.0


@dataclass(frozen=True)
class LabelConfig:
    """How speech is pseudo-labelled."""

    model: str | None = None
    language_token: str | None = None
    device: str = "auto"
    compute_type: str = "default"
    batch_size: int = 16


@dataclass(frozen=True)
class VerdictConfig:
    """Which thresholds decide."""

    preset: str = "default"


@dataclass(frozen=True)
class BuildConfig:
    """How the dataset is built. Names in the tables are those of sources and kinds of label."""

    name: str = "main"
    tokenizer: str | None = None
    dev_hours: float = 1.0
    test_hours: float = 1.0
    seed: int = 0
    single_share: float = SINGLE_SHARE
    gap_seconds: float = 0.0
    temperature: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)
    max_hours: dict[str, float] = field(default_factory=dict)
    max_epochs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """What the rounds of `corpus run --iterations` fine-tune, and settings of `train fit`."""

    model: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class EngineConfig:
    """Where work is done: see `corpus.engine.Workers`."""

    name: str = "local"
    workers: int | None = None


@dataclass(frozen=True)
class Config:
    """`corpus.toml`. Paths in it are relative to the workspace."""

    language: str
    catalogue: str | None = None
    fetch: FetchConfig = field(default_factory=FetchConfig)
    sources: ImportConfig = field(default_factory=ImportConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)


_SECTIONS = {
    "fetch": FetchConfig,
    "sources": ImportConfig,
    "segment": SegmentConfig,
    "label": LabelConfig,
    "verdict": VerdictConfig,
    "build": BuildConfig,
    "train": TrainConfig,
    "engine": EngineConfig,
}

_TEMPLATE = """\
# A whisper-harvest workspace. `corpus run` does what this file asks for, in order.
language = "{language}"
# catalogue = "postgresql://..."   # for a team; default: catalogue.sqlite in this folder

[fetch]
urls = []          # videos, playlists, channels
search = []        # words to search for; only Creative-Commons videos are taken

[sources]
add = []           # own audio or video, with .srt or .vtt beside it where there is one
common_voice = []  # folders or archives of releases
validated_rest = false  # the validated clips outside train, dev and test too
fleurs = []        # folders, or names of the Hub such as "cs_cz"
hf = []            # folders or names of data sets whose card tells the licence

[segment]
target_seconds = 27.0  # length that segments should approach; 30 is the limit

[label]
# model = "openai/whisper-large-v3"   # a name, a folder, or a fine-tuned run

[verdict]
preset = "default" # strict, default, lenient, relative or trusting

[build]
name = "main"
# tokenizer = "openai/whisper-small"  # of the model to be trained: exact token counts fill windows
dev_hours = 1.0    # taken from whole channels and speakers; of a small corpus, a tenth at most
test_hours = 1.0
# weights = {{ review = 2 }}      # how often: of a source, or of subtitle, pseudo, review, release
# max_hours = {{ youtube = 100 }}
# temperature = 2.0              # above 1: small sources are repeated

[train]             # for `corpus run --iterations`
# model = "openai/whisper-small"  # what every round starts from
# config = "fit.toml"             # settings of `train fit`

[engine]
name = "local"     # or ray: the cluster at RAY_ADDRESS
# workers = 4      # processes, or Ray actors; default: this process, or all of the cluster
"""


@dataclass(frozen=True)
class Workspace:
    """A workspace folder and what its configuration says."""

    root: Path
    config: Config

    @property
    def media(self) -> Path:
        """Where decoded recordings and raw subtitles lie."""
        return self.root / "media"

    @property
    def datasets(self) -> Path:
        """Where `corpus build` puts its datasets."""
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        """Where converted models are kept."""
        return self.root / "models"

    @property
    def catalogue_url(self) -> str:
        """The database URL of the catalogue."""
        if self.config.catalogue:
            return self.config.catalogue
        from sqlalchemy import URL

        # A name with a question mark or a percent sign in it is no part of an address as it is.
        file = URL.create("sqlite", database=str(self.root / "catalogue.sqlite"))
        return file.render_as_string()

    def path(self, text: str) -> Path:
        """A path from the configuration or the catalogue; relative ones start at the workspace."""
        return self.root / Path(text).expanduser()

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the workspace's lock `name`, so that two commands never write the same files.

        The operating system drops the lock with the process: a killed command leaves none behind.

        Raises:
            UserError: another process holds it.
        """
        self.root.joinpath(".locks").mkdir(exist_ok=True)
        with open(self.root / ".locks" / name, "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another command is writing {name} in {self.root}; wait until it has ended"
                ) from None
            yield


def init_workspace(root: Path, language: str) -> Workspace:
    """Make a workspace folder for a language (a code such as ``cs`` or ``hsb``).

    Raises:
        UserError: there is one already, or the code is not a language code.
    """
    if not is_language_code(language):
        raise UserError(f"{language!r} is no language code; give one such as cs, hsb or pt-BR")
    if (root / CONFIG_NAME).exists():
        raise UserError(f"{root} is a workspace already; use it, or choose another folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root} cannot be made: {error.strerror}; choose another folder") from None
    (root / CONFIG_NAME).write_text(_TEMPLATE.format(language=language), encoding="utf-8")
    return open_workspace(root)


def open_workspace(path: Path | None = None) -> Workspace:
    """Open the workspace at `path`, or the one that encloses the current folder.

    Raises:
        UserError: there is none, or its configuration has a mistake.
    """
    if path is None:
        here = Path.cwd()
        root = next((p for p in (here, *here.parents) if (p / CONFIG_NAME).exists()), None)
        if root is None:
            raise UserError("no workspace here; make one with `corpus init DIR --language CODE`")
    else:
        root = path.expanduser().resolve()
        if not (root / CONFIG_NAME).exists():
            raise UserError(
                f"{path} is no workspace; make one with `corpus init {path} --language CODE`"
            )
    return Workspace(root, _read_config(root / CONFIG_NAME))


def _read_config(path: Path) -> Config:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
    sections = {
        name: _section(path, name, kind, data.pop(name, {})) for name, kind in _SECTIONS.items()
    }
    if not isinstance(data.get("language"), str):
        raise UserError(f'{path}: give the language, such as language = "cs"')
    config: Config = _section(path, "", Config, {**data, **sections})
    return config


def _section(path: Path, name: str, kind: Any, data: Any) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"{path}: {name} is a section; write [{name}] and its settings below it")
    known = get_type_hints(kind)
    for key, value in data.items():
        where = f"[{name}] {key}" if name else key
        if key not in known:
            raise UserError(
                f"{path}: unknown setting {where}; known here: {', '.join(sorted(known))}"
            )
        if not _fits(value, known[key]):
            wanted = str(getattr(known[key], "__name__", known[key])).removesuffix(" | None")
            raise UserError(f"{path}: {where} = {value!r} is no {wanted}; correct it")
    return kind(**data)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of TOML is what a setting's type asks for."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(
            _fits(item, get_args(hint)[1]) for item in value.values()
        )
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (type(value) is int and float in kinds)
