"""caption: every distinct image or video -> a text by a vision-language model."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import caption, caption_video, schema, urls
from seewhy.caption import Caption, CaptionRequests
from seewhy.caption_video import CaptionVideos, VideoRequests
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.sections import ONLINE, VisionModel
from seewhy.steps import fetch
from seewhy.steps.batch import under_way
from seewhy.steps.plan import Plan, need_done
from seewhy.steps.vision import Asking, run_vision_stage
from seewhy.study import Study
from seewhy.table import Table, digest


def table(study: Study) -> Table:
    return Table(urls.join(study.workspace, "caption", digest(config(study))[:12]), schema.CAPTIONS)


def config(study: Study) -> dict[str, Any]:
    named = caption.identity if study.manifest.video is None else caption_video.identity
    return named(**_arguments(study))


def parts(study: Study) -> tuple[str, ...]:
    return tuple(table(study).parts()) if study.manifest.text is None else ()


def source(study: Study) -> Source:
    return fetch.distinct_images(study)


def plan(study: Study) -> Plan:
    found = fetch.plan_for_images("caption", study, table(study))
    return found if found.note else replace(found, note=under_way(table(study)))


def run(study: Study, reporter: Reporter) -> None:
    need_done(fetch.table(study), fetch.source(study), step="caption", before="fetch")
    run_vision_stage(study, reporter, asking(study))


def asking(study: Study) -> Asking:
    asked = study.caption.model_copy(update={"resources": fetch.block_of(study, study.caption.resources)})
    of_videos = study.manifest.video is not None
    return Asking(
        "caption",
        asked,
        CaptionVideos if of_videos else Caption,
        _arguments(study),
        source(study),
        table(study),
        config(study),
        asks=VideoRequests if of_videos else CaptionRequests,
        shown=caption_video.SHOWN if of_videos else caption.SHOWN,
    )


def _arguments(study: Study) -> dict[str, Any]:
    asked = study.caption
    arguments = {**backend_arguments(asked), "prompt": asked.prompt}
    if study.manifest.video is None:
        return arguments
    frames = caption_video.frames_shown(asked.backend, asked.frames)
    if asked.backend == "vllm" and frames is not None:  # memory is set aside for as many as it is told
        arguments = {"max_images": frames, **arguments}
    limits = {"max_pixels": study.fetch.max_video_pixels, "max_seconds": study.fetch.max_video_seconds}
    return {**arguments, "frames": asked.frames, **limits}


def backend_arguments(asked: VisionModel) -> dict[str, Any]:
    """Which backend, and its own arguments: those that the study leaves open are the backend's."""
    arguments: dict[str, Any] = {**asked.options, "backend": asked.backend}
    if asked.backend == "fake":
        return arguments
    given: dict[str, Any] = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_new_tokens": asked.max_tokens,
        "seed": asked.seed,
    }
    if asked.backend in ONLINE:
        given |= {"model": asked.model, "revision": asked.revision}
    else:
        given |= {"dtype": asked.dtype, "batch_size": asked.batch_size}
    if asked.backend in ("hf", "tiny"):
        given["device"] = asked.device
    arguments |= {name: value for name, value in given.items() if value is not None}
    if asked.backend in ("hf", "vllm"):
        arguments |= {
            "model": asked.model,
            "revision": asked.revision,
            "trust_remote_code": asked.trust_remote_code,
        }
    return arguments


def captioned(study: Study) -> pa.Table:
    """image id, text of the captions that are ok, for the images of this study."""
    ids = source(study).keys.column(schema.ID)
    found = table(study).locate(ids, ["text"])
    return found.select([schema.ID, "text"]).filter(pc.is_valid(found.column("text")))
