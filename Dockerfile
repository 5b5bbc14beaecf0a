# One image for agent and hub: mount settings at /etc/stakeside and a volume at /var/lib/stakeside (the books).
#   docker run -v ./etc:/etc/stakeside:ro -v book:/var/lib/stakeside -p 127.0.0.1:8480:8480 stakeside
#   docker run … stakeside hub run --config /etc/stakeside/hub.toml
# Settings name the book with an absolute path: store = "sqlite:////var/lib/stakeside/agent.db"
FROM python:3.11-slim-bookworm

WORKDIR /srv/stakeside
COPY requirements/base.txt requirements/base.txt
RUN python -m venv /srv/venv \
    && /srv/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet --require-hashes -r requirements/base.txt

COPY . .
RUN /srv/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet --no-deps --no-build-isolation . \
    && rm -rf /srv/stakeside/*

RUN mkdir -p /var/lib/stakeside && chown 10001:10001 /var/lib/stakeside

# Inside a container loopback reaches nobody; what is published is decided with -p.
ENV PATH=/srv/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/stakeside \
    PYTHONUNBUFFERED=1 \
    STAKESIDE_WEB__HOST=0.0.0.0 \
    STAKESIDE_WEB__PORT=8480 \
    STAKESIDE_LOG__FORMAT=json
WORKDIR /var/lib/stakeside
VOLUME /var/lib/stakeside
EXPOSE 8480
USER 10001:10001
# With [web.tls] the port speaks TLS only: name web.tls.health_port in STAKESIDE_HEALTH_PORT.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import os, urllib.request as u; e = os.environ; u.urlopen('http://127.0.0.1:' + (e.get('STAKESIDE_HEALTH_PORT') or e['STAKESIDE_WEB__PORT']) + '/healthz', timeout=4)"]
ENTRYPOINT ["stakeside"]
CMD ["agent", "run", "--config", "/etc/stakeside/agent.toml"]
