# The page, on the embedded weights:  docker build -t automedseg . && docker run --rm -p 7860:7860 automedseg
# Other weights:                      docker run --rm -p 7860:7860 automedseg --weights user/repo@v1.0.0
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 page
WORKDIR /home/page/app

# before the code, so that a change of it installs nothing again
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

COPY LICENSE app.py ./
COPY page page
COPY hub hub
COPY pipeline pipeline

USER page
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 7860
ENTRYPOINT ["python", "app.py"]
