# syntax=docker/dockerfile:1

# Envoy with fairlead-agent, in the place of App Mesh's image aws-appmesh-envoy:
#
#   docker build -f deploy/containers/envoy.Dockerfile -t fairlead-envoy .
#   docker build -f deploy/containers/envoy.Dockerfile --build-arg ENVOY_IMAGE=your/envoy:tag -t fairlead-envoy .
#
# Your own image needs Envoy 1.37 to 1.40 on PATH and nothing else: no shell, no libraries
# but Envoy's own, no root.
ARG GO_IMAGE=golang:1.26-bookworm
ARG ENVOY_IMAGE=envoyproxy/envoy:distroless-v1.40.0

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETARCH
ARG VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -tags=grpcnotrace -ldflags "-s -w -X main.version=${VERSION}" -o /out/bin/fairlead-agent ./cmd/fairlead-agent && \
    install -d -m 0700 /out/state/fairlead

FROM ${ENVOY_IMAGE}
COPY --from=build --chown=0:0 --chmod=0755 /out/bin/fairlead-agent /usr/local/bin/fairlead-agent
COPY --from=build --chown=0:0 --chmod=0644 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# What the agent keeps belongs to its user; a volume that is mounted there takes this over.
COPY --from=build --chown=1337:1337 /out/state/ /var/lib/
VOLUME ["/var/lib/fairlead"]
# The user whose connections are not intercepted.
USER 1337:1337
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/fairlead-agent"]
CMD ["run"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/fairlead-agent", "ready"]
ARG VERSION
LABEL org.opencontainers.image.title="Fairlead's agent with Envoy" \
      org.opencontainers.image.description="The proxy of a virtual node or virtual gateway" \
      org.opencontainers.image.source="https://github.com/fairlead-mesh/fairlead" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
