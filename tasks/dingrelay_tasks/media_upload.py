"""media-upload: a file for messages to show (API §11.5)."""

from functools import partial
from typing import Annotated

from pydantic import Field

from dingrelay_tasks.api_call import Name, Value
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Deliverable, Json
from dingrelay_tasks.kinds import kind

STEP = "upload"


class MediaUpload(Deliverable):
    """Upload a file.

    Attributes:
        upload: which one, as a digest of it: a file is no part of a record.
        content_type: of the form that it is in, with its boundary.
        query: parameters of the URL.
    """

    upload: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    content_type: Annotated[
        str, Field(pattern=r"^multipart/form-data; ?boundary=\"?[A-Za-z0-9'()+_,./:=?-]{1,70}\"?$")
    ]
    query: Annotated[dict[Name, Value], Field(max_length=8)] = Field(default_factory=dict)


@kind("media-upload", MediaUpload, summary="upload={0.upload:.12}", api="media.upload")
async def run(job: MediaUpload, ctx: Context) -> Json:
    """Upload the file; once more if the answer was lost, which leaves an unused copy at DingTalk.

    Returns:
        DingTalk's answer.
    """
    answer = await ctx.once(STEP, partial(_upload, job, ctx))
    await ctx.forget_upload(job.upload)
    return answer


async def _upload(job: MediaUpload, ctx: Context) -> Json:
    answer = await ctx.upload(job.upload, content_type=job.content_type, query=job.query)
    return {"answer": answer}
