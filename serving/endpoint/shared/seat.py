"""One release's place in a process that it shares, called like a process of its own."""

from serving.endpoint.engine_record import record_name, release_path
from serving.endpoint.shared.process import SharedProcess
from serving.endpoint.upstream import EngineAddress


class Seat:
    """As long as its process runs, or until it leaves."""

    def __init__(self, process: SharedProcess, package_sha256: str) -> None:
        self._process = process
        self._package = package_sha256

    @property
    def address(self) -> EngineAddress:
        """How that release is called."""
        process = self._process.address
        return EngineAddress(process.port, process.token, release_path(self._package))

    @property
    def pid(self) -> int:
        """Of the process, which others have as well."""
        return self._process.pid

    @property
    def record_name(self) -> str:
        """Of the file that says that this release is there."""
        return record_name(self.pid, self._package)

    async def wait_for_end(self) -> str:
        """Wait until the process ends, or is ended since it hangs; a sentence that says which."""
        process = self._process
        return await process.wait_for_end()

    async def stop(self, *, at_once: bool = False) -> None:
        """Leave; the last one ends the process."""
        await self._process.leave(self._package, at_once=at_once)
