# A server in a container: docker build -t snapserv . && docker run --rm -p 127.0.0.1:5757:5757 snapserv
#
# Snapshots are forked processes, so give the container memory and processes for as many as you want:
# --memory, --pids-limit, --shm-size (the arena lies in /dev/shm where there is no tmpfs with huge pages of its own).
# Branched folders need --cap-add SYS_ADMIN; without it they are copied. docs/operations.md has the limits.
FROM python:3.12-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip wheel --no-cache-dir --wheel-dir /wheels /source/clients/python '/source[gymnasium,store]'

FROM python:3.12-slim-bookworm
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'snapserv[gymnasium,store]'
RUN useradd --create-home snapserv && install -d -o snapserv /data
USER snapserv
WORKDIR /data
VOLUME /data
EXPOSE 5757
# Beyond loopback clients need keys: `snapserv keygen`, and mount them at /home/snapserv/.config/snapserv/keys.
ENTRYPOINT ["snapserv"]
CMD ["serve", "snapserv.examples.counter:Counter", "--endpoint", "tcp://0.0.0.0:5757"]
