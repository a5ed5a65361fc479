"""Who is let in, and what each may do: accounts, sign-in, a proxy's header."""

import stat
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from corpus.catalogue import Catalogue
from corpus.errors import UserError
from corpus.workspace import Workspace
from review_app import accounts, auth
from review_app.app import create_app
from review_app.auth import LONGEST_WAIT, Access, Throttle

from .conftest import AddSegment

BY_PASSWORD = Access()
PASSWORD = "correct horse battery"

OpenClient = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is checked in a millisecond, and an account looked up each time."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=64))
    monkeypatch.setattr(auth, "KNOWN_SECONDS", 0)


@pytest.fixture
def people(catalogue: Catalogue) -> Catalogue:
    """One account of each role, named after it."""
    with catalogue.session() as session:
        for role in accounts.ROLES:
            accounts.add(session, role, role, PASSWORD)
    return catalogue


@pytest.fixture
def open_client(workspace: Workspace) -> Iterator[OpenClient]:
    """Clients of one app, each a browser of its own."""
    apps: dict[Access, Any] = {}
    opened: list[TestClient] = []

    def client(access: Access = BY_PASSWORD, peer: str = "127.0.0.1") -> TestClient:
        app = apps.get(access) or apps.setdefault(access, create_app(workspace, access))
        one = TestClient(
            app,
            base_url=access.public_url or "http://review.example:7860",
            headers={"X-Requested-With": "test"},
            follow_redirects=False,
            client=(peer, 50_000),
        )
        opened.append(one)
        return one

    yield client
    for one in opened:
        one.close()


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> Any:
    return client.post("/sign-in", data={"name": name, "password": password})


def test_nobody_unknown_gets_anything_but_the_page_to_sign_in(
    people: Catalogue, open_client: OpenClient, add_segment: AddSegment
) -> None:
    key = add_segment("the plane")
    client = open_client()
    app: Any = client.app
    gradio = next(route.app for route in app.routes if hasattr(getattr(route, "app", 0), "blocks"))
    paths = {*app.openapi()["paths"], *(getattr(route, "path", "") for route in gradio.routes)}
    assert {"/api/v1/next", "/media/{segment_id}", "/config"} <= paths
    paths |= {"/player/player.js", "/", "//", "/sign-in/", "/gradio_api/upload"}
    for path in paths - {"/sign-in", ""}:
        for method in ("GET", "POST"):
            answer = client.request(method, path.replace("{segment_id}", key))
            if answer.url.path == "/":
                assert answer.headers["location"] == "/sign-in"
            else:
                assert (answer.status_code, path) == (401, path)
                assert answer.json() == {"detail": "sign in first"}
    assert client.get("/sign-in").status_code == 200


@pytest.mark.parametrize("host", ["review.example/sign-in?", "review.example/sign-in#", "a@b/"])
def test_a_name_of_the_server_that_looks_like_a_path_opens_nothing(
    people: Catalogue, open_client: OpenClient, add_segment: AddSegment, host: str
) -> None:
    key = add_segment("the plane")
    for path in (f"/media/{key}", "/api/v1/session", "/config"):
        answer = open_client().get(path, headers={"Host": host})
        assert answer.status_code in (400, 401)


def test_a_reviewer_signs_in_decides_in_their_own_name_and_signs_out(
    people: Catalogue, open_client: OpenClient, add_segment: AddSegment
) -> None:
    key = add_segment("the plane")
    client = open_client()
    answer = sign_in(client, "reviewer")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=lax"} <= set(answer.headers["set-cookie"].lower().split("; "))
    assert client.get("/").status_code == 200
    assert client.get(f"/media/{key}").status_code == 200
    session = client.get("/api/v1/session").json()
    assert (session["reviewer"], session["role"], session["accounts"]) == (
        "reviewer",
        "reviewer",
        True,
    )
    item = client.get("/api/v1/next").json()["item"]
    decision = {"segment_id": key, "transcript_id": item["transcript_id"], "action": "accept"}
    assert client.post("/api/v1/decide", json=decision | {"client_id": "12345678"}).is_success
    history = client.get(f"/api/v1/segments/{key}/history").json()
    assert [made["reviewer"] for made in history] == ["reviewer"]

    client.post("/sign-out")
    assert client.get("/api/v1/session").status_code == 401


@pytest.mark.parametrize(
    ("name", "password"), [("reviewer", "wrong horse"), ("nobody", PASSWORD), ("reviewer", "")]
)
def test_a_wrong_name_and_a_wrong_password_are_told_alike(
    people: Catalogue, open_client: OpenClient, name: str, password: str
) -> None:
    client = open_client()
    answer = sign_in(client, name, password)
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert client.get("/api/v1/session").status_code == 401


def test_guessing_is_slowed_for_the_name_and_nobody_else(
    people: Catalogue, open_client: OpenClient
) -> None:
    client = open_client()
    tries = [sign_in(client, "admin", f"guess {count}").status_code for count in range(7)]
    assert tries == [401] * auth.FREE_FAILURES + [429] * (7 - auth.FREE_FAILURES)
    refused = sign_in(client, "admin")  # even the right one has to wait
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert sign_in(client, "reviewer").status_code == 303


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60))
def test_who_fails_again_and_again_waits_longer_up_to_a_limit(pauses: list[float]) -> None:
    throttle, at, before = Throttle(), 0.0, 0.0
    for pause in pauses:
        at += throttle.wait("first", at) + pause
        throttle.failed("first", at)
        wait = throttle.wait("first", at)
        assert before <= wait + 1e-9 <= LONGEST_WAIT + 1e-6
        before = wait
    assert (before > 0) == (len(pauses) >= auth.FREE_FAILURES)
    throttle.passed("first")
    assert throttle.wait("first", at) == 0


def test_what_the_throttle_remembers_is_bounded() -> None:
    throttle = Throttle()
    for count in range(2 * Throttle.MAX_NAMES):
        throttle.failed(f"name {count}", 0.0)
    assert len(throttle._failures) == Throttle.MAX_NAMES


def test_a_new_password_and_a_disabled_account_end_what_was_signed_in(
    people: Catalogue, open_client: OpenClient
) -> None:
    one, two = open_client(), open_client()
    assert sign_in(one, "reviewer").status_code == sign_in(two, "admin").status_code == 303
    with people.session() as session:
        accounts.change(session, "reviewer", password="another long one")
        accounts.change(session, "admin", disabled=True)
    assert one.get("/api/v1/session").status_code == 401
    assert two.get("/api/v1/session").status_code == 401
    assert sign_in(two, "admin").status_code == 401
    assert sign_in(one, "reviewer", "another long one").status_code == 303


def test_a_cookie_that_was_made_or_changed_by_somebody_else_is_no_sign_in(
    people: Catalogue, open_client: OpenClient, workspace: Workspace
) -> None:
    client = open_client()
    sign_in(client, "reviewer")
    cookie = client.cookies["review_app"]
    client.cookies.clear()
    for forged in (cookie[:-2] + "AA", "e30=.x.y", "x" * 4000, cookie.upper()):
        headers = {"Cookie": f"review_app={forged}"}
        assert client.get("/api/v1/session", headers=headers).status_code == 401
    key = workspace.root / "review.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_what_only_an_admin_or_an_adjudicator_may_is_refused_to_others_by_api_too(
    people: Catalogue, open_client: OpenClient, add_segment: AddSegment
) -> None:
    key = add_segment("the plane")
    clients = {role: open_client() for role in accounts.ROLES}
    for role, client in clients.items():
        sign_in(client, role)
    transcript = clients["admin"].get(f"/api/v1/segments/{key}").json()["item"]["transcript_id"]
    decided = clients["admin"].post(
        "/api/v1/decide",
        json={
            "segment_id": key,
            "transcript_id": transcript,
            "action": "reject",
            "reason": "music_or_noise",
            "client_id": "12345678",
        },
    )
    revert = {"decision_id": decided.json()["decision_id"]}
    allowed = {
        role: (
            client.get("/api/v1/users").status_code,
            client.post(f"/api/v1/segments/{key}/revert", json=revert).status_code,
        )
        for role, client in clients.items()
    }
    assert allowed == {"reviewer": (403, 403), "adjudicator": (403, 200), "admin": (200, 200)}
    listed = clients["admin"].get("/api/v1/users").json()
    assert [(one["name"], one["role"]) for one in listed] == sorted(
        (role, role) for role in accounts.ROLES
    )
    assert "argon2" not in str(listed)


def test_a_page_of_one_person_does_not_act_in_the_name_of_another(
    people: Catalogue, open_client: OpenClient, add_segment: AddSegment
) -> None:
    add_segment("the plane")
    client = open_client()
    sign_in(client, "reviewer")
    sign_in(client, "admin")  # in another tab of the same browser
    answer = client.get("/api/v1/next", headers={"X-Reviewer": "reviewer"})
    assert answer.status_code == 401
    assert "admin has signed in here meanwhile" in answer.json()["detail"]
    assert client.get("/api/v1/next", headers={"X-Reviewer": "admin"}).status_code == 200


def test_another_page_can_neither_sign_somebody_in_nor_out(
    people: Catalogue, open_client: OpenClient
) -> None:
    client = open_client()
    for path in ("/sign-in", "/sign-out"):
        data = {"name": "admin", "password": PASSWORD}
        answer = client.post(path, data=data, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
    assert "review_app" not in client.cookies


def test_behind_a_proxy_with_tls_the_cookie_is_for_encrypted_pages_and_other_names_are_refused(
    people: Catalogue, open_client: OpenClient
) -> None:
    client = open_client(Access(public_url="https://review.example"))
    origin = {"Origin": "https://review.example"}
    data = {"name": "reviewer", "password": PASSWORD}
    answer = client.post("/sign-in", data=data, headers=origin)
    assert answer.status_code == 303
    assert "secure" in answer.headers["set-cookie"].lower().split("; ")
    assert client.get("/sign-in", headers={"Host": "rebound.example"}).status_code == 400


def test_a_proxys_header_is_believed_from_the_proxy_alone(
    people: Catalogue, open_client: OpenClient
) -> None:
    access = Access(
        header="X-Forwarded-User",
        proxies=(ip_network("10.0.0.0/24"),),
        public_url="https://review.example",
    )
    named = {"X-Forwarded-User": "adjudicator"}
    proxy, stranger = open_client(access, "10.0.0.7"), open_client(access, "192.0.2.1")
    session = proxy.get("/api/v1/session", headers=named).json()
    assert (session["reviewer"], session["role"]) == ("adjudicator", "adjudicator")
    assert session["accounts"] is False  # nothing to sign out of here
    for client, headers in ((stranger, named), (proxy, {}), (proxy, {"X-Forwarded-User": "x"})):
        for path in ("/", "/api/v1/session", "/sign-in"):
            assert client.get(path, headers=headers).status_code in (403, 404)


@pytest.mark.parametrize("name", ["", " first", "a\nb", "x" * 101])
def test_a_name_that_cannot_be_typed_or_read_is_refused(catalogue: Catalogue, name: str) -> None:
    with catalogue.session() as session, pytest.raises(UserError, match="is no name"):
        accounts.add(session, name, "reviewer", PASSWORD)


def test_a_short_password_and_a_taken_name_are_refused(people: Catalogue) -> None:
    with people.session() as session:
        with pytest.raises(UserError, match="too short"):
            accounts.add(session, "first", "reviewer", "short")
        with pytest.raises(UserError, match="has an account already"):
            accounts.add(session, "admin", "reviewer", PASSWORD)


def test_an_account_without_a_password_cannot_sign_in_with_any(
    catalogue: Catalogue, open_client: OpenClient
) -> None:
    with catalogue.session() as session:
        accounts.add(session, "first", "reviewer", None)
    client = open_client()
    for password in ("", "None", PASSWORD):
        assert sign_in(client, "first", password).status_code == 401
