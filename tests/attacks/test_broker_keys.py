"""Other projects' keys and channels, in every form that might pass for the thief's own."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.attacks.forms import key_forms
from tests.attacks.scene import Scene
from tests.attacks.thief import Thief
from tests.attacks.wire import DirectWire, Wire

pytestmark = pytest.mark.usefixtures("innocent")

REFUSED_BY_BROKER = "broker_(command|key|channel|auth)"
# What an account may send, with `{}` where a key or channel belongs.
SHAPES = [
    "LLEN {}",
    "BRPOP {} 0.01",
    "BRPOP {mine}tasks {} 0.01",
    "BRPOP {} {mine}tasks 0.01",
    "LPUSH {} forged",
    "SADD {} forged",
    "SREM {} celery",
    "SMEMBERS {}",
    "DEL {}",
    "DEL {mine}{account}@x.celery.pidbox {}",
    "PUBLISH {} forged",
    "PSUBSCRIBE {}",
    "PSUBSCRIBE {mine}/0.celery.pidbox {}",
    "SUBSCRIBE {}",
    "SSUBSCRIBE {}",
]
# And what it may not, in the forms that have brought others down.
FORBIDDEN_SHAPES = [
    "COPY {} {mine}x.reply.celery.pidbox",
    "COPY {} {mine}_kombu.x REPLACE",
    "COPY {mine}_kombu.x {} DB 1",
    "RENAME {} {mine}_kombu.x",
    "MOVE {} 1",
    "SORT {} STORE {mine}x.reply.celery.pidbox",
    "SORT {mine}_kombu.x BY {}* GET {}* GET #",
    "SORT_RO {}",
    "SUNIONSTORE {mine}_kombu.x {}",
    "SDIFF {mine}_kombu.x {}",
    "SINTERCARD 2 {mine}_kombu.x {}",
    "LMOVE {} {mine}x.reply.celery.pidbox LEFT RIGHT",
    "BLMOVE {} {mine}x.reply.celery.pidbox LEFT RIGHT 0",
    "RPOPLPUSH {} {mine}x.reply.celery.pidbox",
    "BRPOPLPUSH {} {mine}x.reply.celery.pidbox 0",
    "LMPOP 2 {mine}tasks {} LEFT",
    "BLMPOP 0.01 1 {} LEFT",
    "BLPOP {} 0.01",
    "LRANGE {} 0 -1",
    "LINDEX {} 0",
    "LSET {} 0 forged",
    "LTRIM {} 1 0",
    "GETDEL {}",
    "GETSET {} x",
    "DUMP {}",
    "RESTORE {} 0 x REPLACE",
    "MIGRATE 127.0.0.1 1 {} 0 10",
    "MIGRATE 127.0.0.1 1 '' 0 10 KEYS {}",
    "OBJECT ENCODING {}",
    "OBJECT FREQ {}",
    "MEMORY USAGE {}",
    "TYPE {}",
    "EXISTS {}",
    "EXPIRE {} 0",
    "PEXPIREAT {} 1",
    "PERSIST {}",
    "TOUCH {}",
    "UNLINK {}",
    "WATCH {}",
    "KEYS {}",
    "SCAN 0 MATCH {}",
    "SSCAN {} 0",
    "RANDOMKEY",
    "SPUBLISH {} forged",
    "PUBSUB CHANNELS {}",
    "PUBSUB NUMSUB {}",
    "EVAL return(redis.call('LLEN',KEYS[1])) 1 {}",
    "EVAL return(redis.call('LLEN','{}')) 0",
    "EVAL_RO return(redis.call('LLEN',KEYS[1])) 1 {}",
    "EVALSHA 0000000000000000000000000000000000000000 1 {}",
    "SCRIPT LOAD return(1)",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LOAD #!lua",
    "FUNCTION DELETE {}",
    "FCALL f 1 {}",
    "FCALL_RO f 1 {}",
    "XADD {} * a b",
    "XREAD BLOCK 0 STREAMS {} 0",
    "PFMERGE {mine}_kombu.x {}",
    "BITOP NOT {mine}_kombu.x {}",
    "GEORADIUS {} 0 0 1 km STORE {mine}_kombu.x",
    "ZRANGESTORE {mine}_kombu.x {} 0 -1",
    "ACL SETUSER {account} ~{}",
    "ACL SETUSER {account} allkeys allchannels +@all",
    "ACL GETUSER {account}",
    "ACL DELUSER default",
    "ACL LOG",
    "ACL LOG RESET",
    "ACL GENPASS",
    "ACL WHOAMI",
    "CONFIG SET dir /tmp",
    "CONFIG GET *",
    "CONFIG REWRITE",
    "DEBUG SLEEP 10",
    "DEBUG SEGFAULT",
    "MODULE LOAD /tmp/x.so",
    "SLAVEOF 127.0.0.1 1",
    "REPLICAOF 127.0.0.1 1",
    "FAILOVER",
    "CLUSTER MEET 127.0.0.1 1",
    "SHUTDOWN NOSAVE",
    "FLUSHALL",
    "FLUSHDB",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "LATENCY DOCTOR",
    "SLOWLOG GET",
    "INFO everything",
    "COMMAND GETKEYS GET {}",
    "WAIT 1 0",
    "DBSIZE",
]


def _words(shape: str, key: str, thief: Thief) -> list[str]:
    """The shape's words; a key may hold spaces, or nothing."""
    known = {"{mine}": thief.prefix, "{account}": thief.account, "''": ""}
    found = []
    for word in shape.split():
        for name, value in known.items():
            word = word.replace(name, value)
        found.append(word.replace("{}", key))
    return found


@pytest.mark.parametrize("way", ["direct, RESP2", "direct, RESP3", "tunnel"])
def test_no_form_of_a_name_opens_what_is_anothers(way: str, forge: Scene, thief: Thief) -> None:
    """All that a worker may send, aimed at some fifty names that look like its own."""
    keys = key_forms(forge.thiefs_project, forge.innocents_project)
    wire: Wire = (
        forge.tunnel(thief) if way == "tunnel" else forge.direct(thief, protocol=int(way[-1]))
    )
    with forge.attack(f"names of keys and channels, {way}", thief, "broker_(key|channel)") as row:
        for shape in SHAPES:
            if way == "tunnel" and "SUBSCRIBE" in shape and shape[0] == "S":
                continue
            for key in keys:
                words = _words(shape, key, thief)
                if not thief.may(words):
                    answer = wire.ask(*words)
                    row.tried(words, succeeded=not answer.startswith("-NOPERM"))
    wire.close()


def test_no_other_command_reaches_a_key(forge: Scene, thief: Thief, wire: DirectWire) -> None:
    """Copies, stores, scripts, functions, the server's own affairs."""
    keys = key_forms(forge.thiefs_project, forge.innocents_project)[:12]
    keys += [f"{thief.prefix}tasks", f"{thief.prefix}_kombu.binding.celery.pidbox"]
    with forge.attack("copies, stores, scripts, server", thief, "broker_command") as row:
        for shape in FORBIDDEN_SHAPES:
            for key in keys if "{}" in shape else keys[:1]:
                words = _words(shape, key, thief)
                for answers in (wire.ask_many([words]), wire.ask_many([["MULTI"], words])):
                    row.tried(words, succeeded=not answers[-1].startswith("-"))
                wire.ask("EXEC")


def order(method: str, **arguments: Any) -> str:
    """A control command as Celery broadcasts it (kombu.pidbox)."""
    body = {"method": method, "arguments": arguments, "destination": None, "pattern": None}
    properties = {
        "delivery_mode": 2,
        "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
        "priority": 0,
        "body_encoding": "utf-8",
        "delivery_tag": str(uuid.uuid4()),
    }
    return json.dumps(
        {
            "body": json.dumps(body),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {},
            "properties": properties,
        }
    )


ORDERS = [
    order("shutdown"),
    order("rate_limit", task_name="forge.run", rate_limit="1/h"),
    order("add_consumer", queue="x"),
    order("cancel_consumer", queue="tasks"),
    order("pool_restart"),
    order("revoke", task_id="x", terminate=True, signal="KILL"),
    order("forge_stop", task=1, attempt=1),
]


def test_no_order_reaches_a_worker_also_not_a_siblings(forge: Scene, sibling: Thief) -> None:
    """The worker of the same project goes on, and so does the other project's."""
    own = forge.direct(sibling)
    node = f"runner-{forge.demo.id}@{forge.demo.name}"
    places = [f"{sibling.prefix}{place}" for place in ("/0.celery.pidbox", "celery.pidbox")]
    places += [f"{sibling.prefix}{node}.celery.pidbox", f"{sibling.prefix}tasks"]
    places += [
        f"{sibling.prefix}/0.{node}.celery.pidbox",
        f"{sibling.prefix}runner-{forge.demo.id}",
    ]
    places += [f"forge:project:{forge.innocents_project}:/0.celery.pidbox", "/0.celery.pidbox"]
    with forge.attack("orders to workers", sibling, "broker_(key|channel|command)") as row:
        for place in places:
            for message in ORDERS:
                for name in ("PUBLISH", "LPUSH", "SPUBLISH", "SET", "RPUSH", "LPUSHX"):
                    answer = own.ask(name, place, message)
                    row.tried((name, place), succeeded=not answer.startswith("-NOPERM"))
    own.close()
    # The sibling still takes work; the innocent's worker is asked the same at the end.
    task = forge.api.run_script(forge.seeded["project_id"], "echo well")
    assert forge.api.wait_until(task)["state"] == "succeeded"


def test_hints_cannot_be_forged_or_taken_from_siblings_of_other_queues(
    forge: Scene, thief: Thief, wire: DirectWire
) -> None:
    """A queue of tags that the thief's runner does not have, in its own project."""
    special = forge.api.runner(forge.thiefs_project, f"tagged-{thief.runner.id}", tags=["special"])
    task = forge.api.run_script(forge.thiefs_project, "true", tags=["special"])
    broker = forge.administrator
    queues = [
        key.decode() for key in broker.scan_iter(f"{thief.prefix}*") if broker.type(key) == b"list"
    ]
    queues += [f"{thief.prefix}{special.name}", f"{thief.prefix}runner-{special.id}"]
    hint = json.dumps({"body": "e30=", "headers": {"id": "x", "task": "forge.run"}})
    with forge.attack("hints of siblings, forged hints", thief, "broker_(key|command)") as row:
        for queue in [*queues, f"{thief.prefix}tasks", f"{thief.prefix}{thief.account}"]:
            for words in (["LPUSH", queue, hint], ["RPOP", queue], ["DEL", queue]):
                row.tried(words, succeeded=not wire.ask(*words).startswith("-NOPERM"))
            if queue not in (f"{thief.prefix}tasks", f"{thief.prefix}{thief.account}"):
                words = ["BRPOP", queue, "0.01"]
                row.tried(words, succeeded=not wire.ask(*words).startswith("-NOPERM"))
        thief.connect()
        row.tried(["claim", task], succeeded=thief.claim(task).ok)
    forge.api.post(f"tasks/{task}/stop")
