"""Live traffic split by experiments that a folder declares: on a real bundle, without Ray."""

import asyncio
import json
import shutil

import polars as pl
import pytest
import yaml
from edited import edit_manifest

from serving.batch import search_batch
from serving.endpoints import application
from serving.follow import Follower
from serving.schema import BatchRequest, BatchResponse, SearchRequest, SearchResponse, Status
from serving.service import Service
from serving.sources import Sources
from serving.wanted import ArmsFile
from twinspire.errors import RequestError
from twinspire.experiments.folder import ExperimentFolder

WORDS = {"name": "words", "arms": [{"name": "control"}, {"name": "words", "parameters": {"retrieval": "lexical"}}]}
USERS = [f"shopper-{n}" for n in range(60)]


class Split:
    """A replica that follows a folder of experiments."""

    def __init__(self, bundle, folder, events):
        self.bundle, self.folder = bundle, folder
        folder.mkdir(exist_ok=True)
        self.service = Service(events)
        file = ArmsFile(folder.parent / "state")
        file.start({"default": str(bundle)})
        self.follower = self.service.follower = Follower(self.service, file, Sources(), 0.0, ExperimentFolder(folder))
        self.follower.first()

    def declare(self, *experiments, status="running"):
        for one in experiments:
            (self.folder / f"{one['name']}.yaml").write_text(yaml.safe_dump({"status": status} | one))
        self.follower.step()

    def search(self, query="red shoes", user=None, session=None, override=None, profile=None, **more):
        told = {"user_id": user, "session_id": session, "profile": profile}
        told = {name: value for name, value in told.items() if value is not None}
        request = SearchRequest(query=query, user=told or None, **more)

        async def ask():
            choice = self.service.splitter.choose(request, request.arm, "id", override)
            return await self.service.search(request, "id", choice=choice)

        answer = json.loads(asyncio.run(ask()))
        SearchResponse.model_validate(answer, extra="forbid")
        return answer

    def status(self):
        told = json.loads(json.dumps(self.service.status(), default=str))
        Status.model_validate(told | {"refused": 0, "failed": 0}, extra="forbid")
        return told["experiments"]

    def exposures(self):
        self.service.close()
        return pl.read_parquet(self.service.events.folder / "exposures" / "*.parquet")


@pytest.fixture
def split(hybrid_bundle, tmp_path):
    made = Split(hybrid_bundle, tmp_path / "experiments", tmp_path / "events")
    yield made
    made.service.close()


def test_each_user_stays_in_one_arm_which_answers_for_itself(split):
    plain = split.search(user="u1")
    assert "experiments" not in plain
    split.declare(WORDS)
    alone = {arm: split.search(user="u1", override=f"words={arm}".encode())["items"] for arm in ("control", "words")}
    assert alone["control"] == plain["items"] != alone["words"]
    arms = {}
    for user in USERS:
        answer = split.search(user=user)
        arms[user] = answer["experiments"]["words"]
        assert split.search(user=user)["experiments"] == answer["experiments"]
        assert answer["arm"] == "default"
        if arms[user] == "words":
            assert answer["items"] == alone["words"], "no shopper in words alone"
    assert set(arms.values()) == {"control", "words"}
    counted = split.status()["running"]["words"]["arms"]
    assert sum(arm["exposures"] for arm in counted.values()) == 2 * len(USERS) + 2


def test_without_a_unit_the_server_answers_as_without_experiments_and_says_so(split):
    plain = split.search()
    split.declare(WORDS)
    answer = split.search()
    assert answer["experiments"] == {}
    assert answer["outside_experiments"] == "the request names neither user_id nor session_id"
    assert answer["items"] == plain["items"]
    assert split.search(session="s")["experiments"] == {}
    assert "experiments" not in split.search(user="u1", arm="default")


def test_what_is_kept_of_an_answer(split):
    split.declare(WORDS, {"name": "beside", "unit": "session", "arms": [{"name": "a"}, {"name": "b"}]})
    answers = [split.search(user=user, session=f"of-{user}") for user in USERS]
    tester = split.search(override=b"words=words")
    nothing = split.search(query="zzzz", user="u1", session="s", filters={"brand": "none such"})
    assert nothing["items"] == []
    with pytest.raises(RequestError):
        split.search(user="u1", session="s", filters={"colour": "red"})
    table = split.exposures()
    assert len(table) == 2 * len(USERS) + 1 + 2 + 2
    for answer, user in zip(answers, USERS, strict=True):
        rows = table.filter(user_id=user)
        assert dict(rows.select("experiment", "arm").iter_rows()) == answer["experiments"]
        assert dict(rows.select("experiment", "unit_id").iter_rows()) == {"words": user, "beside": f"of-{user}"}
        assert set(rows["results"]) == {len(answer["items"])}
        assert set(rows["model_version"]) == {answer["model"]["version"]}
    assert table["took_ms"].min() > 0 or table.filter(status=200)["took_ms"].min() > 0
    (told,) = table.filter(pl.col("override")).to_dicts()
    assert (told["arm"], told["unit_id"], tester["experiments"]) == ("words", "", {"words": "words"})
    assert sorted(table["status"].unique()) == [200, 422]
    assert table.filter(status=422)["results"].to_list() == [0, 0]


def test_a_file_that_changes_is_followed_and_a_bad_one_leaves_the_old(split):
    split.declare(WORDS)
    first = split.status()["fingerprint"]
    split.declare(WORDS | {"colour": 1})
    told = split.status()
    assert "colour: no such key" in told["refused"]["words.yaml"]
    assert (told["fingerprint"], list(told["running"])) == (first, ["words"])
    split.declare(WORDS | {"arms": [*WORDS["arms"], {"name": "third", "parameters": {"trend": 1}}]})
    told = split.status()
    assert "arm third: parameters.trend: the bundle was written without it" in told["refused"]["words.yaml"]
    assert told["fingerprint"] == first
    split.declare(WORDS, status="stopped")
    assert {split.search(user=user)["experiments"].get("words") for user in USERS} == {None}
    assert split.status()["refused"] == {}
    (split.folder / "words.yaml").unlink()
    split.follower.step()
    assert split.status()["running"] == {}
    assert "experiments" not in split.search(user="u1")


def test_bundles_of_arms_are_loaded_and_given_back_and_a_missing_one_is_refused(split, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "new")
    edit_manifest(tmp_path / "new", version="new")
    two = {"name": "two", "arms": [{"name": "a"}, {"name": "b", "bundle": "../new"}]}
    split.declare(two)
    answers = {user: split.search(user=user) for user in USERS}
    for answer in answers.values():
        assert (answer["model"]["version"] == "new") is (answer["experiments"]["two"] == "b")
    split.declare(two | {"arms": [{"name": "a"}, {"name": "b", "bundle": "../none"}]})
    assert "arm b: " in split.status()["refused"]["two.yaml"]
    assert {user: split.search(user=user)["experiments"] for user in USERS} == {
        user: answer["experiments"] for user, answer in answers.items()
    }
    (split.folder / "two.yaml").unlink()
    split.follower.step()
    split.follower.step()
    assert list(split.service.versions.current) == ["default"]


def test_two_experiments_answer_together(split):
    other = {"name": "plain", "arms": [{"name": "a"}, {"name": "b", "parameters": {"personalised": False}}]}
    split.declare(WORDS, other)
    both = {tuple(split.search(user=user)["experiments"].items()) for user in USERS}
    assert len(both) == 4
    tester = split.search(override=b"words=words, plain=b", user="u1")
    assert tester["experiments"] == {"words": "words", "plain": "b"}


def test_a_tester_who_asks_for_what_there_is_not_is_told_what_there_is(split):
    with pytest.raises(RequestError, match="this server has no experiments"):
        split.search(override=b"words=words")
    split.declare(WORDS, status="draft")
    with pytest.raises(
        RequestError, match="x-twinspire-arm: 'words=other' names no arm; write EXPERIMENT=ARM, such as"
    ):
        split.search(override=b"words=other")
    assert split.search(override=b"words=words")["experiments"] == {"words": "words"}
    assert "experiments" not in split.search(user="u1"), "a draft is for testers"


def test_an_audience_is_of_the_profile_that_the_request_gives(split):
    split.declare(WORDS | {"audience": {"gender": "f"}})
    assert split.search(user="u1", profile={"gender": "f"})["experiments"].keys() == {"words"}
    assert split.search(user="u1", profile={"gender": "m"})["experiments"] == {}


def test_the_searches_of_a_batch_are_in_the_experiments_of_their_users(split):
    split.declare(WORDS)
    searches = [{"query": "red shoes", "user": {"user_id": user}} for user in USERS[:20]] + [{"query": "lamp"}]
    request = BatchRequest(searches=searches)
    answer = json.loads(asyncio.run(search_batch(split.service, request, "many")))
    BatchResponse.model_validate(answer, extra="forbid")
    for user, result in zip(USERS, answer["results"][:-1], strict=False):
        alone = split.search(user=user)
        assert result["experiments"] == alone["experiments"]
        assert [item["item_id"] for item in result["items"]] == [item["item_id"] for item in alone["items"]]
        scores = [[item["score"] for item in items] for items in (result["items"], alone["items"])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5), "the towers of many sum up in another order"
    assert "outside_experiments" in answer["results"][-1]
    table = split.exposures()
    assert sorted(table.filter(request_id="many")["unit_id"]) == sorted(USERS[:20])


def test_an_interleaved_answer_is_drafted_from_both_arms_and_its_teams_kept(split):
    split.declare(WORDS | {"kind": "interleave"})
    alone = {
        arm: [item["item_id"] for item in split.search(override=f"words={arm}".encode(), k=20)["items"]]
        for arm in ("control", "words")
    }
    answer = split.search(user="nobody", k=20, explain=True)
    assert answer["experiments"] == {"words": "interleaved"}
    assert answer["understood"]["query"] == "red shoes"
    found = [item["item_id"] for item in answer["items"]]
    teams = [item["team"] for item in answer["items"]]
    assert len(set(found)) == len(found) == 20
    for team, arm in enumerate(("control", "words")):
        drafted = [item for item, of in zip(found, teams, strict=True) if of == team]
        assert drafted == sorted(drafted, key=alone[arm].index)
    again = split.search(user="nobody", k=20)
    assert [item["item_id"] for item in again["items"]] == found
    rows = split.exposures().filter(arm="interleaved")
    assert rows["items"].to_list() == [found, found]
    assert rows["teams"].to_list()[0] == teams
    assert rows["results"].to_list() == [20, 20]


def test_replicas_agree(split, hybrid_bundle, tmp_path):
    split.declare(WORDS, {"name": "layered", "layer": "l", "share": 0.4, "arms": [{"name": "a"}, {"name": "b"}]})
    other = Split(hybrid_bundle, split.folder, tmp_path / "events")
    assert other.status()["fingerprint"] == split.status()["fingerprint"]
    for user in USERS[:20]:
        assert other.search(user=user)["experiments"] == split.search(user=user)["experiments"]
    other.service.close()
    assert len(split.exposures()) >= 40


def test_a_swap_of_the_default_bundle_takes_the_arms_along(split, tmp_path):
    split.declare(WORDS)
    before = split.search(override=b"words=words")
    shutil.copytree(split.bundle, tmp_path / "next")
    edit_manifest(tmp_path / "next", version="next")
    split.follower.want("default", str(tmp_path / "next"))
    split.follower.step()
    after = split.search(override=b"words=words")
    assert (after["model"]["version"], after["items"]) == ("next", before["items"])


def test_experiments_at_the_start_and_over_http(hybrid_bundle, tmp_path):
    import httpx

    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "words.yaml").write_text(yaml.safe_dump(WORDS | {"status": "running"}))
    (folder / "bad.yaml").write_text("name: [")
    made = Split(hybrid_bundle, folder, tmp_path / "events")
    app = application(made.service)

    async def ask(headers):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
            return await client.post("/v1/search", json={"query": "mug", "user": {"user_id": "u1"}}, headers=headers)

    assert asyncio.run(ask({"x-twinspire-arm": "words=words"})).json()["experiments"] == {"words": "words"}
    refused = asyncio.run(ask({"x-twinspire-arm": "words=x"}))
    assert (refused.status_code, refused.json()["field"]) == (422, "x-twinspire-arm")
    assert list(made.status()["refused"]) == ["bad.yaml"]
    made.service.close()


def test_a_tester_may_see_what_is_chosen_without_being_counted(split):
    split.declare(WORDS)
    for user in USERS[:10]:
        assert split.search(user=user, override=b"*")["experiments"] == split.search(user=user)["experiments"]
    assert sorted(split.exposures()["override"]) == [False] * 10 + [True] * 10
