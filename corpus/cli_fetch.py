"""`corpus fetch`: videos from the web."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpus import console
from corpus.cli_common import (
    NoCheckCertificateOption,
    NoSleepOption,
    ProxyOption,
    network_options,
    open_both,
    tell,
)
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.text import base_language
from corpus.workspace import WorkspaceOption

if TYPE_CHECKING:
    from corpus.fetch import Planned

ANY_LANGUAGE = "any"


def fetch(
    urls: Annotated[
        list[str] | None, typer.Argument(help="Videos, playlists, channels or @handles.")
    ] = None,
    search: Annotated[
        list[str] | None, typer.Option(help="Words to search for; may be given several times.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option(help="File of addresses, one a line; # begins a comment.")
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", help="Only `cc`: Creative Commons without ND and NC.")
    ] = "cc",
    allow_nc: Annotated[
        bool, typer.Option("--allow-nc", help="Take licences for non-commercial use too.")
    ] = False,
    max_videos: Annotated[int | None, typer.Option(min=1, help="List at most this many.")] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop when so much of what is listed is here."),
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds; shorter videos are left.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds; longer videos are left.")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Spoken language, such as pt-BR, if not just the workspace's; any: whatever the "
            "site says is spoken."
        ),
    ] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Search by date instead of by relevance.")
    ] = False,
    subtitles_only: Annotated[
        bool, typer.Option("--subtitles-only", help="Leave videos without human subtitles.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be taken, and take nothing.")
    ] = False,
    cookies: Annotated[
        Path | None, typer.Option(help="Netscape cookie file; free videos need none.")
    ] = None,
    proxy: ProxyOption = None,
    rate_limit: Annotated[
        str | None, typer.Option(help="Bytes a second for media, such as 500K or 2M.")
    ] = None,
    no_check_certificate: NoCheckCertificateOption = False,
    no_sleep: NoSleepOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch Creative-Commons videos with their human subtitles.

    From YouTube, Wikimedia Commons, PeerTube, and other sites that tell a video's licence.
    Videos without usable subtitles are taken too, for pseudo-labelling. Automatic captions never
    become labels. Run it again to go on where it stopped.

    Example: corpus fetch --license cc --search "rozhovor" --max-videos 50
    """
    from corpus.fetch import fetch as take
    from corpus.fetch import plan_fetch, read_urls
    from corpus.sources.video import FetchOptions
    from corpus.sources.ytdlp import check_cookies

    if licence != "cc":
        raise UserError(f"--license {licence}: only cc can be checked; own files: corpus add")
    space, catalogue = open_both(workspace)
    config = space.config.fetch
    rate = rate_limit or config.rate_limit
    if cookies:
        check_cookies(cookies)
        console.say("warning: YouTube may block an account whose cookies fetch many videos")
    options = FetchOptions(
        language=_spoken(language, space.config.language),
        any_language=language == ANY_LANGUAGE or (language is None and config.any_language),
        cookies=cookies,
        rate_limit=_bytes(rate) if rate else None,
        subtitles_only=config.subtitles_only or subtitles_only,
        min_seconds=config.min_duration if min_duration is None else min_duration,
        max_seconds=config.max_duration if max_duration is None else max_duration,
        allow_nc=config.allow_nc or allow_nc,
        newest_first=newest_first,
        **network_options(config, proxy, no_check_certificate, no_sleep),
    )
    if (options.min_seconds or 0.0) > (options.max_seconds or math.inf):
        raise UserError(f"no video is {options.wanted_length} long; exchange the two limits")
    addresses = [*(urls or []), *(read_urls(from_file) if from_file else [])]
    if dry_run:
        planned = plan_fetch(
            catalogue,
            addresses,
            search or [],
            options,
            max_videos=max_videos,
            max_hours=max_hours,
        )
        _tell_plan(planned, as_json)
        return
    counts = take(
        space,
        catalogue,
        addresses,
        search or [],
        options,
        max_videos=max_videos,
        max_hours=max_hours,
    )
    tell(counts, "fetch", as_json, ("taken", "not taken"))


def _spoken(asked: str | None, language: str) -> str:
    """The code of the language to fetch in a workspace for `language`: that, or a kind of it."""
    if asked in {None, ANY_LANGUAGE}:
        return language
    if base_language(asked) != base_language(language):
        raise UserError(
            f"--language {asked}: this workspace is for {language}; make one for {asked} with "
            "`corpus init`"
        )
    return asked


def _bytes(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.strip().upper())
    if match is None or float(match[1]) == 0:
        raise UserError(f"{text!r} is no rate; give bytes a second, such as 500K or 2M")
    return int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))


def _tell_plan(planned: "Iterable[Planned]", as_json: bool) -> None:
    videos = list(planned)
    taken = [video for video in videos if video.outcome == "take"]
    hours = sum(video.seconds or 0.0 for video in taken) / 3600
    if as_json:
        console.print_json(
            {"take": len(taken), "hours": hours, "videos": [asdict(video) for video in videos]}
        )
        return
    console.print_table(
        f"{len(taken)} of {len(videos)} would be taken, {hours:.2f} hours",
        ["video", "title", "minutes", "outcome", "licence", "subtitles", "why"],
        [
            [
                video.id,
                video.title,
                None if video.seconds is None else f"{video.seconds / 60:.1f}",
                video.outcome,
                video.licence,
                video.subtitles,
                video.why,
            ]
            for video in videos
        ],
    )
