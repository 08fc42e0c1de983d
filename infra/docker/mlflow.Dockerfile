# The MLflow server: PostgreSQL for the records, S3-compatible storage for files, users with passwords.
#   docker build -f infra/docker/mlflow.Dockerfile -t somgrad-mlflow:VERSION .
# Its version of mlflow is that of infra/requirements.lock, so clients and server agree.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /app/venv
ENV PATH=/app/venv/bin:$PATH
COPY infra/docker/mlflow.lock /app/
RUN python -m pip install -q --no-deps --require-hashes -r /app/mlflow.lock && python -m pip check

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 1000 mlflow && useradd --uid 1000 --gid 1000 --no-create-home mlflow
COPY --from=build /app/venv /app/venv
ENV PATH=/app/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet
WORKDIR /tmp
USER 1000:1000
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow"]
CMD ["server", "--host", "0.0.0.0", "--port", "5000"]
