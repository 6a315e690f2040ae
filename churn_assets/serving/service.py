"""The BentoML service `churn`: POST /predict."""

import bentoml

from churn_assets.errors import ChurnError
from churn_assets.serving.http import Holder, application

_app = application()


@bentoml.service(name="churn", traffic={"timeout": 10}, workers=1)
@bentoml.asgi_app(_app, path="/")
class ChurnService:
    """Scores one customer a request, with the bundle packed into the Bento or the home's champion."""

    def __init__(self) -> None:
        self.holder: Holder = _app.state.holder

    def __is_ready__(self) -> bool:
        """Ready once a verified bundle is loaded."""
        try:
            self.holder.scorer()
        except ChurnError:
            return False
        return True
