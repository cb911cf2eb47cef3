"""Small runs of agents, made by hand, in each form that is imported."""

from __future__ import annotations

import json
from typing import Any

ORDER = [
    ("find_user", {"name": "Ada"}, "user_1", False),
    ("get_order", {"id": 7}, "Error: order 7 not found", True),
    ("get_order", {"id": 8}, "a red canoe", False),
    ("return_order", {"id": 8}, "done", False),
]
TASK = "I want to send my canoe back."


def line(number: int = 1, *, reward: float = 1.0, **fields: Any) -> dict[str, Any]:
    """A line of ours."""
    return {
        "id": f"shop:{number}",
        "agent_model": "model-a",
        "source": "shop.json",
        "domain": "retail",
        "family": f"customer {number}",
        "task": TASK,
        "steps": [
            {"tool": tool, "args": args, "result": result, "error": failed}
            for tool, args, result, failed in ORDER
        ],
        "reward": reward,
        "gold_tools": ["return_order"],
        **fields,
    }


def chat(*, wrapped: bool = True) -> list[dict[str, Any]]:
    """The same run as messages, its calls as the OpenAI API has them, or plain."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You serve customers."},
        {"role": "user", "content": TASK},
    ]
    for number, (tool, args, result, failed) in enumerate(ORDER):
        call: dict[str, Any] = {"id": f"call_{number}"}
        if wrapped:
            call["function"] = {"name": tool, "arguments": json.dumps(args)}
        else:
            call |= {"name": tool, "arguments": args, "requestor": "assistant"}
        answer: dict[str, Any] = {"role": "tool", "content": result}
        key = "tool_call_id" if wrapped else "id"
        answer[key] = f"call_{number}"
        if not wrapped:
            answer |= {"error": failed, "requestor": "assistant"}
        messages += [{"role": "assistant", "content": None, "tool_calls": [call]}, answer]
    return [*messages, {"role": "assistant", "content": "It is on its way."}]


def tau(number: int = 1, *, reward: float = 1.0) -> dict[str, Any]:
    """A result of τ-bench."""
    return {
        "task_id": number,
        "trial": 0,
        "reward": reward,
        "info": {
            "task": {
                "user_id": "ada_1",
                "instruction": "You are Ada.",
                "actions": [{"name": "return_order", "kwargs": {"id": 8}}],
            }
        },
        "traj": chat(),
    }


def tau2(*, reward: float = 1.0) -> dict[str, Any]:
    """A result file of τ²-bench with one simulation, in which the user has tools too."""
    mine = {"id": "u1", "name": "reboot", "arguments": {}, "requestor": "user"}
    theirs = [
        {"role": "user", "content": None, "tool_calls": [mine]},
        {"role": "tool", "id": "u1", "content": "ok", "requestor": "user", "error": False},
    ]
    actions = [
        {"name": "return_order", "requestor": "assistant"},
        {"name": "reboot", "requestor": "user"},
    ]
    return {
        "info": {"agent_info": {"llm": "model-b"}, "environment_info": {"domain_name": "retail"}},
        "tasks": [
            {"id": "t1", "ticket": None, "evaluation_criteria": {"actions": actions}},
        ],
        "simulations": [
            {
                "id": "sim-1",
                "task_id": "t1",
                "trial": 0,
                "start_time": "2025-08-01T16:23:24.895557",
                "end_time": "2025-08-01T16:24:03.637501",
                "reward_info": {"reward": reward},
                "messages": [*chat(wrapped=False), *theirs],
            }
        ],
    }


def swe_agent(*, status: str | None = "submitted") -> dict[str, Any]:
    """A trajectory of SWE-agent, with a demonstration before it."""
    return {
        "environment": "swe_main",
        "trajectory": [
            {
                "action": "find_file canoe.py\n",
                "observation": "canoe.py",
                "thought": "Where is it?",
            },
            {"action": "python canoe.py\n", "observation": "it floats", "execution_time": 0.25},
            {"action": "submit\n", "observation": "", "thought": ""},
        ],
        "history": [
            {"role": "system", "content": "You fix code."},
            {"role": "user", "content": "Here is a demonstration.", "is_demo": True},
            {"role": "user", "content": "The canoe sinks."},
        ],
        "info": {"exit_status": status, "submission": "diff"},
    }


FILES: dict[str, tuple[str, Any]] = {
    "episodes": ("runs.jsonl", [line(1), line(2, reward=0.0), line(3, reward=0.5)]),
    "tau-bench": ("model-c-retail.json", [tau(1), tau(2, reward=0.0)]),
    "tau2-bench": ("tau2.json", tau2()),
    "swe-agent": ("canoe.traj", swe_agent()),
    "messages": ("log.jsonl", [{"id": "a", "model": "model-d", "messages": chat(), "reward": 1}]),
}
