"""Uploading a file (API §11.5)."""

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.media import LARGEST, SUFFIXES
from dingrelay_sandbox.state import SandboxState


def upload(state: SandboxState, call: Call) -> Answer:
    """``POST /media/upload``: the kind is in the query or the form."""
    kind = call.query.get("type") or (call.payload or {}).get("type")
    if kind not in LARGEST:
        raise OapiRefusal(40_004, "不合法的媒体文件类型")
    file = call.upload
    if file is None or file.field != "media" or not file.size:
        raise OapiRefusal(41_005, "缺少多媒体文件数据")
    if file.name.rpartition(".")[2].lower() not in SUFFIXES[kind]:
        raise OapiRefusal(40_005, "不合法的文件类型")
    if file.size > LARGEST[kind]:
        raise OapiRefusal(40_006, "不合法的文件大小")
    kept = state.media.add(call.caller.app_key, kind, file)
    return oapi_ok(call.request_id, type=kind, media_id=kept.id, created_at=int(call.at * 1000))
