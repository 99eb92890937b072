package fairlead;

import java.util.ArrayList;
import java.util.List;
import software.amazon.awssdk.services.appmesh.model.AccessLog;
import software.amazon.awssdk.services.appmesh.model.Backend;
import software.amazon.awssdk.services.appmesh.model.DefaultGatewayRouteRewrite;
import software.amazon.awssdk.services.appmesh.model.DnsResponseType;
import software.amazon.awssdk.services.appmesh.model.Duration;
import software.amazon.awssdk.services.appmesh.model.DurationUnit;
import software.amazon.awssdk.services.appmesh.model.GatewayRouteSpec;
import software.amazon.awssdk.services.appmesh.model.HttpMethod;
import software.amazon.awssdk.services.appmesh.model.HttpScheme;
import software.amazon.awssdk.services.appmesh.model.IpPreference;
import software.amazon.awssdk.services.appmesh.model.JsonFormatRef;
import software.amazon.awssdk.services.appmesh.model.ListenerTimeout;
import software.amazon.awssdk.services.appmesh.model.ListenerTlsCertificate;
import software.amazon.awssdk.services.appmesh.model.ListenerTlsMode;
import software.amazon.awssdk.services.appmesh.model.LoggingFormat;
import software.amazon.awssdk.services.appmesh.model.PortMapping;
import software.amazon.awssdk.services.appmesh.model.PortProtocol;
import software.amazon.awssdk.services.appmesh.model.RouteSpec;
import software.amazon.awssdk.services.appmesh.model.ServiceDiscovery;
import software.amazon.awssdk.services.appmesh.model.TagRef;
import software.amazon.awssdk.services.appmesh.model.TcpRetryPolicyEvent;
import software.amazon.awssdk.services.appmesh.model.TlsValidationContextTrust;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewayConnectionPool;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewayListenerTlsMode;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewayPortProtocol;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewaySpec;
import software.amazon.awssdk.services.appmesh.model.VirtualNodeConnectionPool;
import software.amazon.awssdk.services.appmesh.model.VirtualNodeSpec;
import software.amazon.awssdk.services.appmesh.model.VirtualRouterListener;

/** What the operations are called with. */
final class Specs {
    private Specs() {}

    /** Tags of keys and values in turn. */
    static List<TagRef> tags(String... pairs) {
        List<TagRef> all = new ArrayList<>();
        for (int i = 0; i < pairs.length; i += 2) {
            all.add(TagRef.builder().key(pairs[i]).value(pairs[i + 1]).build());
        }
        return all;
    }

    static PortMapping port(int number, PortProtocol protocol) {
        return PortMapping.builder().port(number).protocol(protocol).build();
    }

    static VirtualRouterListener listener(int number, PortProtocol protocol) {
        return VirtualRouterListener.builder().portMapping(port(number, protocol)).build();
    }

    private static Duration duration(long value, DurationUnit unit) {
        return Duration.builder().unit(unit).value(value).build();
    }

    /** A node with a member of each union that one can have; port is the health check's, or null. */
    static VirtualNodeSpec node(Integer port) {
        return VirtualNodeSpec.builder()
                .listeners(l -> l.portMapping(port(8080, PortProtocol.HTTP))
                        .healthCheck(h -> h.healthyThreshold(2).unhealthyThreshold(3).intervalMillis(5000L).timeoutMillis(2000L)
                                .protocol(PortProtocol.HTTP).path("/up?a=<b>&c").port(port))
                        .connectionPool(VirtualNodeConnectionPool.fromHttp(p -> p.maxConnections(10).maxPendingRequests(20)))
                        .outlierDetection(o -> o.baseEjectionDuration(duration(30, DurationUnit.S)).interval(duration(500, DurationUnit.MS))
                                .maxEjectionPercent(50).maxServerErrors(9007199254740993L)) // no whole number in floating point
                        .timeout(ListenerTimeout.fromHttp(t -> t.idle(duration(0, DurationUnit.S)).perRequest(d -> d.unit(DurationUnit.S))))
                        .tls(t -> t.mode(ListenerTlsMode.PERMISSIVE)
                                .certificate(ListenerTlsCertificate.fromFile(f -> f.certificateChain("/cert.pem").privateKey("/key.pem")))
                                .validation(v -> v.trust(trust -> trust.sds(s -> s.secretName("ca"))))))
                .serviceDiscovery(ServiceDiscovery.fromDns(d -> d.hostname("blue.internal").responseType(DnsResponseType.ENDPOINTS)
                        .ipPreference(IpPreference.IP_V6_PREFERRED)))
                .backends(Backend.fromVirtualService(s -> s.virtualServiceName("not-there.local")
                        .clientPolicy(c -> c.tls(t -> t.enforce(false).ports(443, 80)
                                .validation(v -> v.trust(TlsValidationContextTrust.fromFile(f -> f.certificateChain("/ca.pem")))
                                        .subjectAlternativeNames(n -> n.match(m -> m.exact("b.local", "a.local"))))))))
                .logging(l -> l.accessLog(AccessLog.fromFile(f -> f.path("/dev/stdout").format(LoggingFormat.fromJson(List.of(
                        JsonFormatRef.builder().key("b").value("%PROTOCOL%").build(), JsonFormatRef.builder().key("a").value("ü ✓").build()))))))
                .build();
    }

    static VirtualNodeSpec cloudMap() {
        return VirtualNodeSpec.builder()
                .listeners(l -> l.portMapping(port(8080, PortProtocol.HTTP)))
                .serviceDiscovery(ServiceDiscovery.fromAwsCloudMap(c -> c.namespaceName("shop").serviceName("green")
                        .attributes(a -> a.key("stack").value("two words"))))
                .build();
    }

    static RouteSpec route() {
        return RouteSpec.builder()
                .priority(1000)
                .httpRoute(h -> h
                        .match(m -> m.path(p -> p.regex("/a/[0-9]+<&>")).method(HttpMethod.POST).scheme(HttpScheme.HTTPS)
                                .headers(
                                        r -> r.name("X-Range").invert(false).match(x -> x.range(range -> range.start(-1L).end(7L))),
                                        r -> r.name("x-present"),
                                        r -> r.name("x-prefix").invert(true).match(x -> x.prefix("p")))
                                .queryParameters(q -> q.name("q").match(x -> x.exact("1"))))
                        .action(a -> a.weightedTargets(
                                t -> t.virtualNode("blue").weight(90).port(8080), t -> t.virtualNode("green").weight(10)))
                        .retryPolicy(p -> p.maxRetries(0L).perRetryTimeout(duration(250, DurationUnit.MS))
                                .httpRetryEvents("server-error", "client-error").tcpRetryEvents(TcpRetryPolicyEvent.CONNECTION_ERROR))
                        .timeout(t -> t.perRequest(duration(15, DurationUnit.S))))
                .build();
    }

    static VirtualGatewaySpec gateway() {
        return VirtualGatewaySpec.builder()
                .listeners(l -> l.portMapping(p -> p.port(8443).protocol(VirtualGatewayPortProtocol.HTTP))
                        .connectionPool(VirtualGatewayConnectionPool.fromHttp(p -> p.maxConnections(5)))
                        .tls(t -> t.mode(VirtualGatewayListenerTlsMode.STRICT).certificate(c -> c.sds(s -> s.secretName("own")))))
                .logging(l -> l.accessLog(a -> a.file(f -> f.path("/dev/stdout").format(LoggingFormat.fromText("%START_TIME%\n")))))
                .build();
    }

    static GatewayRouteSpec gatewayRoute() {
        return GatewayRouteSpec.builder()
                .httpRoute(h -> h.match(m -> m.prefix("/shop/"))
                        .action(a -> a.target(t -> t.virtualService(s -> s.virtualServiceName("shop.local")))
                                .rewrite(w -> w.hostname(n -> n.defaultTargetHostname(DefaultGatewayRouteRewrite.DISABLED)).prefix(p -> p.value("/")))))
                .build();
    }
}
