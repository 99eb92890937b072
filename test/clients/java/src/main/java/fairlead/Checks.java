package fairlead;

import java.lang.reflect.Method;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.awscore.retry.AwsRetryStrategy;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.interceptor.SdkExecutionAttribute;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.appmesh.AppMeshClient;
import software.amazon.awssdk.services.appmesh.model.AppMeshException;
import software.amazon.awssdk.services.appmesh.model.AppMeshRequest;
import software.amazon.awssdk.services.appmesh.model.AppMeshResponse;
import software.amazon.awssdk.services.appmesh.model.BadRequestException;
import software.amazon.awssdk.services.appmesh.model.ConflictException;
import software.amazon.awssdk.services.appmesh.model.ForbiddenException;
import software.amazon.awssdk.services.appmesh.model.InternalServerErrorException;
import software.amazon.awssdk.services.appmesh.model.LimitExceededException;
import software.amazon.awssdk.services.appmesh.model.NotFoundException;
import software.amazon.awssdk.services.appmesh.model.ResourceInUseException;
import software.amazon.awssdk.services.appmesh.model.ResourceMetadata;
import software.amazon.awssdk.services.appmesh.model.ServiceUnavailableException;
import software.amazon.awssdk.services.appmesh.model.TooManyRequestsException;
import software.amazon.awssdk.services.appmesh.model.TooManyTagsException;

/** Clients that note what they call, and the checks of what comes back. */
final class Checks {
    /** The SDK's class for each error of the model. */
    private static final Map<String, Class<? extends AppMeshException>> TYPED = Map.of(
            "BadRequestException", BadRequestException.class,
            "ConflictException", ConflictException.class,
            "ForbiddenException", ForbiddenException.class,
            "InternalServerErrorException", InternalServerErrorException.class,
            "LimitExceededException", LimitExceededException.class,
            "NotFoundException", NotFoundException.class,
            "ResourceInUseException", ResourceInUseException.class,
            "ServiceUnavailableException", ServiceUnavailableException.class,
            "TooManyRequestsException", TooManyRequestsException.class,
            "TooManyTagsException", TooManyTagsException.class);

    final Main.Settings settings;
    final SortedSet<String> called = Collections.synchronizedSortedSet(new TreeSet<>());
    final Map<String, String> errors = Collections.synchronizedMap(new TreeMap<>());
    final AtomicInteger count = new AtomicInteger();

    Checks(Main.Settings settings) {
        this.settings = settings;
    }

    /** The operations that the client has: its methods that take a request and return a response. */
    static SortedSet<String> model() {
        SortedSet<String> names = new TreeSet<>();
        for (Method m : AppMeshClient.class.getMethods()) {
            if (m.getParameterCount() == 1
                    && AppMeshRequest.class.isAssignableFrom(m.getParameterTypes()[0])
                    && AppMeshResponse.class.isAssignableFrom(m.getReturnType())) {
                names.add(m.getName().substring(0, 1).toUpperCase() + m.getName().substring(1));
            }
        }
        return names;
    }

    /** Makes a client that never tries again and notes what it calls. */
    AppMeshClient client(Main.Login login) {
        ExecutionInterceptor note = new ExecutionInterceptor() {
            @Override
            public void beforeExecution(Context.BeforeExecution context, ExecutionAttributes attributes) {
                called.add(attributes.getAttribute(SdkExecutionAttribute.OPERATION_NAME));
            }
        };
        return AppMeshClient.builder()
                .endpointOverride(URI.create(login.endpoint()))
                .region(Region.of(settings.region()))
                .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create(login.accessKeyId(), login.secretAccessKey())))
                .overrideConfiguration(c -> c.retryStrategy(AwsRetryStrategy.doNotRetry()).addExecutionInterceptor(note))
                .build();
    }

    void holds(boolean condition, String what) {
        count.incrementAndGet();
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    void same(Object expected, Object actual) {
        holds(Objects.equals(expected, actual), actual + " is not " + expected);
    }

    /** Checks what is said of an object that was just made. */
    void made(ResourceMetadata m, String status, String path) {
        same("ACTIVE", status);
        same("arn:aws:appmesh:" + settings.region() + ":" + settings.account() + ":mesh/" + settings.mesh() + path, m.arn());
        same(1L, m.version());
        same(List.of(settings.account(), settings.account()), List.of(m.meshOwner(), m.resourceOwner()));
        same(36, m.uid().length());
        holds(Duration.between(m.createdAt(), Instant.now()).abs().toMinutes() < 10, "createdAt is " + m.createdAt());
        same(m.createdAt(), m.lastUpdatedAt());
        same(0, m.createdAt().getNano() % 1_000_000);
    }

    /** Checks what is said of an object after its next version was made. */
    void changed(ResourceMetadata before, ResourceMetadata after) {
        holds(!after.lastUpdatedAt().isBefore(before.lastUpdatedAt()), "lastUpdatedAt went back");
        same(before.toBuilder().version(before.version() + 1).lastUpdatedAt(after.lastUpdatedAt()).build(), after);
    }

    /** Calls something that has to end with an error of the class for code. */
    void refused(String code, Runnable call) {
        try {
            call.run();
        } catch (AwsServiceException e) {
            if (!TYPED.get(code).isInstance(e)) {
                throw new AssertionError(code + ": the call ended with " + e, e);
            }
            same(code, e.awsErrorDetails().errorCode());
            holds(!e.awsErrorDetails().errorMessage().isEmpty() && e.requestId() != null && e.statusCode() >= 400, "the error is " + e);
            errors.put(code, e.getClass().getName());
            return;
        }
        throw new AssertionError(code + ": the call succeeded");
    }
}
