"""Export and import."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from noisefloor.api.dependencies import ProjectName, RawBody, ServiceDep
from noisefloor.api.document import TEXT, ContentType, body_of
from noisefloor.api.series import Filter, WindowDep
from noisefloor.contract.record import Imported
from noisefloor.contract.resources import FieldError
from noisefloor.errors import InvalidRequestError, MalformedBodyError
from noisefloor.history.rows import from_csv, from_json_lines
from noisefloor.store.session import writing
from noisefloor.workflow.exports import ExportFormat, export
from noisefloor.workflow.imports import import_records

READERS = {
    "text/csv": from_csv,
    "application/jsonl": from_json_lines,
    "application/x-ndjson": from_json_lines,
}
EXPORTED = {
    "content": {form.media_type.partition(";")[0]: TEXT for form in ExportFormat},
    "headers": {"Content-Disposition": {"description": "the file's name", **TEXT}},
}

router = APIRouter(prefix="/v1/projects/{project}", tags=["records"])


@router.get("/export", response_class=StreamingResponse, responses={200: EXPORTED, 501: {}})
def get_export(
    project: ProjectName,
    to: ServiceDep,
    where: Filter,
    jobs: WindowDep,
    format: ExportFormat = ExportFormat.CSV,  # noqa: A002 - the parameter's name
) -> StreamingResponse:
    """The measurements of settled jobs, streamed: a row each, with all that it takes to import them again."""
    pieces = export(to.engine, project, filters=where.wanted, window=jobs, form=format)
    name = f'attachment; filename="{project}.{format.value}"'
    return StreamingResponse(pieces, media_type=format.media_type, headers={"Content-Disposition": name})


@router.post("/import", openapi_extra=body_of(*READERS))
def post_import(
    project: ProjectName,
    to: ServiceDep,
    body: RawBody,
    content_type: ContentType = "",
) -> Imported:
    """Keep measurements of an export, CSV or JSON lines. Those that are there already stay as they are."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in READERS:
        error = FieldError(
            field="header.content-type",
            message="cannot be imported",
            value=kind[:100],
            accepted=list(READERS),
        )
        raise InvalidRequestError("header.content-type: cannot be imported", [error])
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"the body is not UTF-8: {error}") from None
    rows = list(READERS[kind](text))
    with writing(to.engine, "import") as session:
        return import_records(session, project, rows)
