# `kdtf serve` with what it needs and nothing of what trains: no TensorFlow, no Keras.
#   docker build -t kdtf .
#   docker run --rm -p 127.0.0.1:8000:8000 -e KDTF_TOKEN -v "$PWD/Results:/students:ro" --read-only --tmpfs /tmp \
#       kdtf /students/alone_Student_int8.tflite
FROM python:3.11-slim
WORKDIR /kdtf
COPY requirements.txt pyproject.toml README.md LICENSE ./
RUN grep -E '^(numpy|pillow|ai-edge-litert|pydicom|rich)==' requirements.txt > serve.txt \
    && pip install --no-cache-dir -r serve.txt 'fastapi>=0.165,<1' 'uvicorn>=0.54,<1' 'setuptools>=77'
COPY kdtf kdtf
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && useradd --system student
USER student
EXPOSE 8000
HEALTHCHECK CMD python -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health')"
ENTRYPOINT ["kdtf", "serve", "--host", "0.0.0.0"]
