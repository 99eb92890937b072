# syntax=docker/dockerfile:1

# What hands connections to Envoy, in two images.
#
# The init container, in the place of App Mesh's aws-appmesh-proxy-route-manager: it sets the
# rules and ends. It needs the capability NET_ADMIN.
#
#   docker build -f deploy/containers/intercept.Dockerfile --target init -t fairlead-intercept .
#
# The CNI plugin: it puts itself into the folder that is mounted at /host/opt/cni/bin, and ends.
#
#   docker build -f deploy/containers/intercept.Dockerfile --target cni -t fairlead-cni .
ARG GO_IMAGE=golang:1.26-bookworm
ARG SHELL_IMAGE=busybox:1.37.0-musl

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETARCH
ARG VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -tags=grpcnotrace -ldflags "-s -w -X main.version=${VERSION}" -o /out/bin/fairlead-agent ./cmd/fairlead-agent

FROM ${SHELL_IMAGE} AS cni
COPY --from=build --chown=0:0 --chmod=0755 /out/bin/fairlead-agent /usr/local/bin/fairlead-cni
# hadolint ignore=DL3002
USER 0:0
# By rename: the runtime may call the plugin at any time.
ENTRYPOINT ["/bin/sh", "-c", "cp /usr/local/bin/fairlead-cni /host/opt/cni/bin/.fairlead-cni.new && mv /host/opt/cni/bin/.fairlead-cni.new /host/opt/cni/bin/fairlead-cni"]
ARG VERSION
LABEL org.opencontainers.image.title="Fairlead's CNI plugin" \
      org.opencontainers.image.description="Hands the connections of pods to the Envoy beside them" \
      org.opencontainers.image.source="https://github.com/fairlead-mesh/fairlead" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

FROM scratch AS init
COPY --from=build --chown=0:0 --chmod=0755 /out/bin/fairlead-agent /usr/local/bin/fairlead-agent
ENV PATH=/usr/local/bin
# Only root can have NET_ADMIN in a container's start.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/usr/local/bin/fairlead-agent"]
CMD ["intercept", "enable"]
ARG VERSION
LABEL org.opencontainers.image.title="Fairlead's interception" \
      org.opencontainers.image.description="Hands the connections of a task or pod to the Envoy beside it" \
      org.opencontainers.image.source="https://github.com/fairlead-mesh/fairlead" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
