// What the operations are called with.

/** Tags of keys and values in turn. */
export function tags(...pairs) {
  const all = [];
  for (let i = 0; i < pairs.length; i += 2) {
    all.push({ key: pairs[i], value: pairs[i + 1] });
  }
  return all;
}

export const port = (number, protocol) => ({ portMapping: { port: number, protocol } });

/** A node with a member of each union that one can have, and a health check without a port. */
export const node = () => ({
  listeners: [
    {
      ...port(8080, "http"),
      healthCheck: {
        healthyThreshold: 2,
        unhealthyThreshold: 3,
        intervalMillis: 5000,
        timeoutMillis: 2000,
        protocol: "http",
        path: "/up?a=<b>&c",
      },
      connectionPool: { http: { maxConnections: 10, maxPendingRequests: 20 } },
      outlierDetection: {
        baseEjectionDuration: { unit: "s", value: 30 },
        interval: { unit: "ms", value: 500 },
        maxEjectionPercent: 50,
        maxServerErrors: Number.MAX_SAFE_INTEGER,
      },
      timeout: { http: { idle: { unit: "s", value: 0 }, perRequest: { unit: "s" } } },
      tls: {
        mode: "PERMISSIVE",
        certificate: { file: { certificateChain: "/cert.pem", privateKey: "/key.pem" } },
        validation: { trust: { sds: { secretName: "ca" } } },
      },
    },
  ],
  serviceDiscovery: { dns: { hostname: "blue.internal", responseType: "ENDPOINTS", ipPreference: "IPv6_PREFERRED" } },
  backends: [
    {
      virtualService: {
        virtualServiceName: "not-there.local",
        clientPolicy: {
          tls: {
            enforce: false,
            ports: [443, 80],
            validation: {
              trust: { file: { certificateChain: "/ca.pem" } },
              subjectAlternativeNames: { match: { exact: ["b.local", "a.local"] } },
            },
          },
        },
      },
    },
  ],
  logging: {
    accessLog: {
      file: {
        path: "/dev/stdout",
        format: {
          json: [
            { key: "b", value: "%PROTOCOL%" },
            { key: "a", value: "ü ✓" },
          ],
        },
      },
    },
  },
});

export const cloudMap = () => ({
  listeners: [port(8080, "http")],
  serviceDiscovery: {
    awsCloudMap: { namespaceName: "shop", serviceName: "green", attributes: [{ key: "stack", value: "two words" }] },
  },
});

export const route = () => ({
  priority: 1000,
  httpRoute: {
    match: {
      path: { regex: "/a/[0-9]+<&>" },
      method: "POST",
      scheme: "https",
      headers: [
        { name: "X-Range", invert: false, match: { range: { start: -1, end: 7 } } },
        { name: "x-present" },
        { name: "x-prefix", invert: true, match: { prefix: "p" } },
      ],
      queryParameters: [{ name: "q", match: { exact: "1" } }],
    },
    action: {
      weightedTargets: [
        { virtualNode: "blue", weight: 90, port: 8080 },
        { virtualNode: "green", weight: 10 },
      ],
    },
    retryPolicy: {
      maxRetries: 0,
      perRetryTimeout: { unit: "ms", value: 250 },
      httpRetryEvents: ["server-error", "client-error"],
      tcpRetryEvents: ["connection-error"],
    },
    timeout: { perRequest: { unit: "s", value: 15 } },
  },
});

export const gateway = () => ({
  listeners: [
    {
      ...port(8443, "http"),
      connectionPool: { http: { maxConnections: 5 } },
      tls: { mode: "STRICT", certificate: { sds: { secretName: "own" } } },
    },
  ],
  logging: { accessLog: { file: { path: "/dev/stdout", format: { text: "%START_TIME%\n" } } } },
});

export const gatewayRoute = () => ({
  httpRoute: {
    match: { prefix: "/shop/" },
    action: {
      target: { virtualService: { virtualServiceName: "shop.local" } },
      rewrite: { hostname: { defaultTargetHostname: "DISABLED" }, prefix: { value: "/" } },
    },
  },
});
