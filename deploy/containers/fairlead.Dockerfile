# syntax=docker/dockerfile:1

# The control plane:
#
#   docker build -f deploy/containers/fairlead.Dockerfile -t fairlead .
#   docker run -v fairlead:/var/lib/fairlead -v /path/to/tls:/etc/fairlead/tls:ro -p 9080:9080 -p 9081:9081 fairlead
#
# It serves with the certificate /etc/fairlead/tls/tls.crt and its key tls.key, and does not
# start without them.
ARG GO_IMAGE=golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETARCH
ARG VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -tags=grpcnotrace -ldflags "-s -w -X main.release=${VERSION}" -o /out/bin/fairlead ./cmd/fairlead && \
    install -d -m 0700 /out/state/fairlead /out/tmp

FROM scratch
COPY --from=build --chown=0:0 --chmod=0755 /out/bin/fairlead /usr/local/bin/fairlead
COPY --from=build --chown=0:0 --chmod=0644 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/
COPY --from=build --chown=65532:65532 /out/tmp/ /tmp/
VOLUME ["/var/lib/fairlead"]
ENV PATH=/usr/local/bin \
    FAIRLEAD_API_LISTEN=0.0.0.0:9080 \
    FAIRLEAD_XDS_LISTEN=0.0.0.0:9081 \
    FAIRLEAD_OPS_LISTEN=0.0.0.0:9082 \
    FAIRLEAD_TLS_CERT=/etc/fairlead/tls/tls.crt \
    FAIRLEAD_TLS_KEY=/etc/fairlead/tls/tls.key
EXPOSE 9080 9081 9082
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/fairlead"]
CMD ["server", "--data-dir", "/var/lib/fairlead"]
ARG VERSION
LABEL org.opencontainers.image.title="Fairlead" \
      org.opencontainers.image.description="A service-mesh control plane that speaks the AWS App Mesh API" \
      org.opencontainers.image.source="https://github.com/fairlead-mesh/fairlead" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
