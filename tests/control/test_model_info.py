"""What callers see of the models in force: their own, in the fields of the compatible surface, without credentials."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from gatehouse import Gatehouse

from ostiary.catalog.facts import CAPABILITIES
from ostiary.catalog.models import load_models
from ostiary.catalog.profiles import load_profiles
from ostiary.catalog.providers import load_providers
from ostiary.control.deployments import as_reached
from ostiary.core.price import FREE, PriceState
from ostiary.core.secret import Secret
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, Deployment, PolicySnapshot

CANARY = "sk-provider-canary-9"
PLACE = "llm.inside.example"


def deployment(name: str, provider: str, model: str, **fields: Any) -> Deployment:
    """As the compiler makes one."""
    row = load_providers().find(provider)
    assert row is not None
    facts = None if "*" in model else load_models().find(row, model)
    known: dict[str, Any] = {}
    if facts:
        state = PriceState.LISTED if facts.price else PriceState.UNKNOWN
        known = {
            "price": facts.price, "price_state": state, "mode": facts.mode,
            "max_input_tokens": facts.max_input_tokens, "max_output_tokens": facts.max_output_tokens,
        }  # fmt: skip
    plain = Deployment(
        id=f"{provider}-{name}", model_name=name, provider=provider, upstream_model=model, scheme="https", host=PLACE,
        port=443, base_path="/v1", credential=Secret(CANARY), headers=(("x-extra", CANARY),), **{**known, **fields},
    )  # fmt: skip
    return as_reached(plain, row, load_profiles(), known=True)


def in_force(house: Gatehouse, *made: Deployment, **fields: Any) -> None:
    groups: dict[str, tuple[Deployment, ...]] = {}
    for each in made:
        if each.mode != GIVEN_BY_OPERATOR:
            groups[each.model_name] = (*groups.get(each.model_name, ()), each)
    house.policy.snapshot = PolicySnapshot(
        revision=9,
        groups=MappingProxyType({name: group for name, group in groups.items() if "*" not in name}),
        patterns=tuple((name, group) for name, group in groups.items() if "*" in name),
        deployments=MappingProxyType({each.id: each for each in made}),
        **fields,
    )


@pytest.fixture
def furnished(house: Gatehouse) -> Gatehouse:
    in_force(
        house,
        deployment("gpt", "openai", "gpt-5", info=(("note", b'"for all"'), ("supports_web_search", b"false"))),
        deployment("gpt", "anthropic", "claude-sonnet-4-5"),
        deployment("vectors", "openai", "text-embedding-3-large", access_groups=("search",)),
        deployment("secret", "openai", "gpt-4o", price=FREE, price_state=PriceState.FREE),
        deployment("open/*", "openai", "*"),
        deployment("target", "openai", "-", mode=GIVEN_BY_OPERATOR),
        aliases={"nick": "gpt", "cover": "secret"},
        hidden=frozenset({"cover"}),
        access_groups={"search": frozenset({"vectors"})},
    )
    return house


async def key_for(house: Gatehouse, *models: str, **fields: Any) -> dict[str, str]:
    answer = await house.client.post("/key/generate", json={"models": list(models), **fields})
    return house.as_key(answer.json()["key"])


async def rows(house: Gatehouse, path: str, headers: dict[str, str] | None = None, **query: Any) -> list[Any]:
    answer = await house.client.get(path, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    data: list[Any] = answer.json()["data"]
    return data


def names(data: Iterable[Any]) -> list[str]:
    return [row.get("model_group") or row["model_info"]["id"] for row in data]


@pytest.mark.parametrize("path", ["/model/info", "/v1/model/info", "/v2/model/info"])
async def test_a_row_says_what_is_known_of_the_model(furnished: Gatehouse, path: str) -> None:
    (row,) = [row for row in await rows(furnished, path) if row["model_info"]["id"] == "openai-gpt"]
    info = row["model_info"]
    assert row["model_name"] == "gpt"
    assert row["litellm_params"]["model"] == "openai/gpt-5"
    assert (info["key"], info["mode"], info["litellm_provider"]) == ("gpt-5", "chat", "openai")
    assert (info["max_input_tokens"], info["max_output_tokens"], info["max_tokens"]) == (272_000, 128_000, 128_000)
    assert (info["max_context_tokens"], info["deprecation_date"]) == (400_000, "2026-12-11")
    assert (info["input_cost_per_token"], info["output_cost_per_token"]) == (1.25e-06, 1e-05)
    assert info["cache_read_input_token_cost"] == 1.25e-07
    assert info["cache_creation_input_token_cost"] is None
    assert (info["supports_reasoning"], info["supports_vision"], info["supports_audio_output"]) == (True, True, None)
    assert (info["db_model"], info["note"]) == (False, "for all")
    assert set(CAPABILITIES) <= info.keys()


async def test_what_the_operator_says_of_a_model_wins(furnished: Gatehouse) -> None:
    assert load_models().row("gpt-5").capabilities["supports_web_search"] is True  # type: ignore[union-attr]
    (row,) = await rows(furnished, "/model/info", litellm_model_id="openai-gpt")
    assert row["model_info"]["supports_web_search"] is False
    assert "web_search_options" not in row["model_info"]["supported_openai_params"]
    (group,) = await rows(furnished, "/model_group/info", model_group="gpt")
    assert group["supports_web_search"] is False


async def test_the_fields_a_model_takes_are_those_its_codec_can_say(furnished: Gatehouse) -> None:
    by_id = {row["model_info"]["id"]: row["model_info"] for row in await rows(furnished, "/model/info")}
    openai, anthropic = (by_id[f"{name}-gpt"]["supported_openai_params"] for name in ("openai", "anthropic"))
    assert {"n", "seed", "logit_bias", "reasoning_effort", "tools", "response_format"} <= set(openai)
    assert not {"temperature", "top_p", "audio"} & set(openai)  # a reasoning model that answers in text
    assert {"temperature", "stop", "tools", "reasoning_effort"} <= set(anthropic)
    assert not {"n", "seed", "logit_bias"} & set(anthropic)
    assert by_id["openai-vectors"]["supported_openai_params"] is None
    assert by_id["openai-vectors"]["output_vector_size"] == 3072


async def test_amounts_are_exact_numbers_and_free_is_not_unknown(furnished: Gatehouse) -> None:
    text = (await furnished.client.get("/model/info", params={"model_id": "openai-vectors"})).text
    assert '"input_cost_per_token":1.3E-7' in text
    (free,) = await rows(furnished, "/model/info", model_id="openai-secret")
    assert (free["model_info"]["input_cost_per_token"], free["model_info"]["price_state"]) == (0, "free")
    (unknown,) = await rows(furnished, "/model/info", model_id="openai-open/*")
    assert (unknown["model_info"]["input_cost_per_token"], unknown["model_info"]["key"]) == (None, None)


PATHS = ("/model/info", "/v1/model/info", "/v2/model/info", "/model_group/info", "/model/deprecations")


async def test_no_answer_holds_a_credential(furnished: Gatehouse) -> None:
    for headers in (None, await key_for(furnished)):
        for path in PATHS:
            answer = await furnished.client.get(path, headers=headers)
            assert answer.status_code == 200
            assert CANARY not in answer.text
            # Where models are is for those who administer them.
            assert (PLACE in answer.text) == (headers is None and "group" not in path and "deprec" not in path), path


@pytest.mark.parametrize(
    ("models", "deployments", "groups"),
    [
        (["gpt"], {"openai-gpt", "anthropic-gpt"}, {"gpt", "nick"}),
        (["nick"], {"openai-gpt", "anthropic-gpt"}, {"nick"}),
        (["search"], {"openai-vectors"}, {"vectors"}),
        (["open/gpt-4o"], {"openai-open/*"}, {"open/gpt-4o"}),
        (["open/*"], {"openai-open/*"}, {"open/*"}),
        (["cover"], set(), set()),
        (["no-default-models"], set(), set()),
        (["nothing"], set(), set()),
    ],
)
async def test_a_key_sees_what_it_may_use(
    furnished: Gatehouse, models: list[str], deployments: set[str], groups: set[str]
) -> None:
    key = await key_for(furnished, *models)
    for path in PATHS[:3]:
        assert set(names(await rows(furnished, path, key))) == deployments, path
    assert set(names(await rows(furnished, "/model_group/info", key))) == groups


async def test_what_is_not_his_is_not_there(furnished: Gatehouse) -> None:
    key = await key_for(furnished, "gpt")
    for query in ({"litellm_model_id": "openai-secret"}, {"model_id": "openai-secret"}, {"model_id": "nobody"}):
        answer = await furnished.client.get("/model/info", params=query, headers=key)
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, next(iter(query)))
    for group in ("secret", "cover", "openai-secret", "nobody", "open/gpt-4o"):
        assert await rows(furnished, "/model_group/info", key, model_group=group) == []
    assert await rows(furnished, "/v2/model/info", key, modelId="openai-secret") == []


async def test_the_operators_targets_are_no_models(furnished: Gatehouse) -> None:
    for headers in (None, await key_for(furnished)):
        for path in PATHS[:4]:
            assert "target" not in json.dumps(await rows(furnished, path, headers))
        assert await rows(furnished, "/model_group/info", headers, model_group="openai-target") == []


async def test_an_alias_of_the_key_shows_what_it_leads_to(furnished: Gatehouse) -> None:
    key = await key_for(furnished, "secret", aliases={"mine": "secret"})
    assert set(names(await rows(furnished, "/model_group/info", key))) == {"secret", "mine"}
    (group,) = await rows(furnished, "/model_group/info", key, model_group="mine")
    assert (group["model_group"], group["max_output_tokens"]) == ("mine", 16_384)


async def test_a_group_is_what_all_its_deployments_can(furnished: Gatehouse) -> None:
    (group,) = await rows(furnished, "/model_group/info", model_group="gpt")
    assert group["providers"] == ["anthropic", "openai"]
    assert (group["max_input_tokens"], group["max_output_tokens"], group["mode"]) == (272_000, 128_000, "chat")
    assert (group["input_cost_per_token"], group["output_cost_per_token"]) == (3e-06, 1.5e-05)  # the dearer one
    assert (group["supports_reasoning"], group["supports_vision"]) == (True, True)
    assert (group["supports_parallel_function_calling"], group["supports_audio_input"]) == (False, False)
    assert "tools" in group["supported_openai_params"]
    assert "seed" not in group["supported_openai_params"]


async def test_a_name_that_a_wildcard_serves_is_shown_as_the_model_it_means(furnished: Gatehouse) -> None:
    key = await key_for(furnished, "open/gpt-4o")
    (group,) = await rows(furnished, "/model_group/info", key)
    assert (group["max_input_tokens"], group["input_cost_per_token"]) == (128_000, 2.5e-06)
    assert group["supports_vision"] is True


async def test_pages_hold_each_deployment_once(house: Gatehouse) -> None:
    in_force(house, *(deployment(f"m{number:02}", "openai", "gpt-4o") for number in range(23)))
    seen: list[str] = []
    for page in range(1, 7):
        answer = (await house.client.get("/v2/model/info", params={"page": page, "size": 5})).json()
        seen += names(answer["data"])
        assert len(answer["data"]) == (5, 5, 5, 5, 3, 0)[page - 1]
        counts = {name: answer[name] for name in ("total_count", "current_page", "total_pages", "size")}
        assert counts == {"total_count": 23, "current_page": page, "total_pages": 5, "size": 5}
    assert seen == [f"openai-m{number:02}" for number in range(23)]
    assert len(await rows(house, "/v2/model/info")) == 23
    assert names(await rows(house, "/model/info", page=2, size=20)) == seen[20:]
    assert len(await rows(house, "/model_group/info", page=1, size=4)) == 4


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "VECT"}, ["openai-vectors"]),
        ({"model": "gpt"}, ["openai-gpt", "anthropic-gpt"]),
        ({"modelId": "openai-secret"}, ["openai-secret"]),
        ({"access_group": "search"}, ["openai-vectors"]),
        ({"wildcard_only": "true"}, ["openai-open/*"]),
        ({"search": "nothing"}, []),
        ({"sortBy": "model_name", "sortOrder": "desc", "search": "e"},
         ["openai-vectors", "openai-secret", "openai-open/*"]),
        ({"sortBy": "costs", "search": "g", "sortOrder": "desc"}, ["anthropic-gpt", "openai-gpt"]),
    ],
)  # fmt: skip
async def test_a_page_holds_what_fits_in_the_order_asked_for(
    furnished: Gatehouse, query: dict[str, str], found: list[str]
) -> None:
    assert names(await rows(furnished, "/v2/model/info", None, **query)) == found


@pytest.mark.parametrize(
    "query",
    [{"page": "0"}, {"page": "-1"}, {"size": "0"}, {"size": "1001"}, {"size": "many"}, {"sortBy": "password"},
     {"sortOrder": "up"}, {"wildcard_only": "perhaps"}],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_refused_by_its_field(
    furnished: Gatehouse, query: dict[str, str]
) -> None:
    answer = await furnished.client.get("/v2/model/info", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


async def test_stored_models_are_sorted_by_when_they_were_made(house: Gatehouse) -> None:
    for name in ("b", "a", "c"):
        body = {"model_name": name, "litellm_params": {"model": "openai/gpt-4o", "api_key": CANARY},
                "model_info": {"id": name}}  # fmt: skip
        assert (await house.client.post("/model/new", json=body)).status_code == 200
        house.clock.ahead += 5
    data = await rows(house, "/v2/model/info", sortBy="created_at", sortOrder="desc")
    assert names(data) == ["c", "a", "b", "from-file"]
    assert data[0]["created_by"] == "admin"
    (mine,) = await rows(house, "/v2/model/info", await key_for(house, "c"))
    assert "created_by" not in json.dumps(mine)
    assert mine["model_info"]["db_model"] is True


async def test_models_that_come_to_their_end_are_named(house: Gatehouse) -> None:
    def own(name: str, base: str) -> Deployment:
        return deployment(name, "openai", "own", info=(("base_model", msgspec.json.encode(base)),))

    in_force(house, own("old", "gpt-5"), own("young", "text-embedding-3-small"))
    ends = load_models().row("gpt-5").ends  # type: ignore[union-attr]
    answer = (await house.client.get("/model/deprecations", params={"warn_within_days": 3660})).json()
    (row,) = [row for kind in ("deprecated", "imminent", "upcoming") for row in answer[kind]]
    assert (row["model_name"], row["deprecation_date"]) == ("old", ends)
    assert answer["warn_within_days"] == 3660
    house.clock.ahead += 3660 * 86_400
    (row,) = (await house.client.get("/model/deprecations")).json()["deprecated"]
    assert row["days_until_deprecation"] < 0
    nobody = await key_for(house, "young")
    assert (await house.client.get("/model/deprecations", headers=nobody)).json()["deprecated"] == []
