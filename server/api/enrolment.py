"""The HTTP API: codes, who waits to be approved, and who is admitted no more."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request

from server.api.answers import ApprovedAnswer, CodeAnswer, IssuedAnswer, WaitingAnswer
from server.api.bodies import ApprovalBody, EnrolmentBody, Name
from server.api.pages import Paged
from server.api.rights import Enroller
from server.app import Control
from server.rights.table import Deed, may
from server.views import code_rows, waiting_rows
from transport.control.address import StationAddress
from transport.control.messages import spelt_alike
from transport.security.enrolment import EnrolmentCode

CodeNumber = Annotated[str, Path(pattern="^[0-9a-f]{8}$")]
Key = Annotated[str, Path(max_length=64)]


def add_enrolment(api: FastAPI, control: Control) -> None:
    """Codes and those who come with them."""
    _add_codes(api, control)
    _add_pending(api, control)


def _add_codes(api: FastAPI, control: Control) -> None:
    enrolling = control.enrolling

    @api.get("/api/v1/enrolments", response_model=list[CodeAnswer])
    async def codes(asker: Enroller, page: Paged) -> list[dict[str, Any]]:
        """Codes that nobody has used, by the names that they are for."""
        mine = (
            row
            for row in code_rows(enrolling.enrolment, enrolling.now_ns())
            if may(asker.grants, Deed.ENROL, enrolling.concerned(row["name"], row["unit"]))
        )
        # In a name there is no slash.
        return page.rows(mine, lambda row: f"{row['name']}/{row['number']}")

    @api.post("/api/v1/enrolments", response_model=IssuedAnswer, status_code=201)
    async def issue(
        body: EnrolmentBody, request: Request, asker: Enroller
    ) -> dict[str, list[dict[str, Any]]]:
        """Make codes; each is shown this once, and takes the place of any other for its name."""
        station = body.station(_called(request), control.reachable)
        issued = await enrolling.issue(body.names, body.unit, body.minutes, asker)
        return {
            "codes": [
                {
                    "number": code.number.hex(),
                    "name": code.name,
                    "unit": code.unit,
                    "expires_in_s": 60 * body.minutes,
                    "replaces": _is_enrolled(code.name),
                    "code": _text(station, secret),
                }
                for code, secret in issued
            ]
        }

    def _is_enrolled(name: str) -> bool:
        known = control.station.directory.endpoints.get(name)
        return known is not None and known.key is not None

    def _text(station: StationAddress, secret: bytes) -> str:
        return EnrolmentCode(station, enrolling.root_fingerprint, secret).text

    @api.delete("/api/v1/enrolments/{number}", status_code=204)
    async def cancel(number: CodeNumber, asker: Enroller) -> None:
        """Have a code be none."""
        await enrolling.cancel(bytes.fromhex(number), asker)


def _called(request: Request) -> str:
    """What address this was asked at."""
    host, port = request.scope["server"] or ("", 0)
    return request.headers.get("host") or f"{host}:{port}"


def _add_pending(api: FastAPI, control: Control) -> None:
    enrolling = control.enrolling

    @api.get(
        "/api/v1/enrolments/pending",
        response_model=list[WaitingAnswer],
    )
    async def pending(asker: Enroller, page: Paged) -> list[dict[str, Any]]:
        """Loudspeakers that wait to be approved, by their keys."""
        # What one would like to be called is nobody's yet.
        mine = (
            row
            for row in waiting_rows(enrolling.enrolment, enrolling.now_ns())
            if may(asker.grants, Deed.ENROL, enrolling.concerned("", row["unit"]))
        )
        return page.rows(mine, lambda row: str(row["key"]))

    @api.post(
        "/api/v1/enrolments/pending/{key}/approve",
        response_model=ApprovedAnswer,
    )
    async def approve(key: Key, body: ApprovalBody, asker: Enroller) -> dict[str, Any]:
        """Admit a loudspeaker that waits, by its key's fingerprint, under this name."""
        return {"name": await enrolling.approve(key, body.name, body.unit, asker)}

    @api.delete("/api/v1/enrolments/pending/{key}", status_code=204)
    async def refuse(key: Key, asker: Enroller) -> None:
        """Send a loudspeaker that waits away for good."""
        await enrolling.refuse(key, asker)

    @api.post("/api/v1/speakers/{name}/revoke", status_code=204)
    async def revoke(name: Name, asker: Enroller) -> None:
        """Have a loudspeaker be admitted no more; what is on air goes on with other keys."""
        await enrolling.revoke(spelt_alike(name), asker)
